"""Draw what standard input describes; run by the Python of the peers' environment."""

import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "cos"  # the same figures make the same file
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of the backend

data = json.load(sys.stdin)
panels = data["panels"]
figure, axes = plt.subplots(
    1, len(panels), figsize=(6.5 * len(panels), 0.62 * len(data["cells"]) + 1.6), squeeze=False
)
height = 0.8 / len(data["programs"])
for axis, panel in zip(axes[0], panels, strict=True):
    for index, (program, values) in enumerate(zip(data["programs"], panel["values"], strict=True)):
        places = [place + index * height for place, value in enumerate(values) if value]
        axis.barh(places, [value for value in values if value], height, label=program)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yticks([place + 0.4 - height / 2 for place in range(len(data["cells"]))], data["cells"])
    axis.invert_yaxis()
    axis.set_title(panel["title"])
    axis.set_xlabel("seconds, as a multiple of cos (less is faster)")
axes[0][0].legend(fontsize="small")
figure.tight_layout()
figure.savefig(data["file"], metadata={"Date": None})
