"""What mount(8), /etc/fstab and umount(8) call.

mount.cosfs SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]
umount.cosfs MOUNTPOINT [-flnrv] [-t TYPE]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

_USAGE = "usage: mount.cosfs cos://[BUCKET[/PREFIX]] MOUNTPOINT [-sfnv] [-o OPTIONS]"


def main() -> NoReturn:
    """Mount, as `cos mount` does; 0 is success and 1 bad usage, 32 a failure, as mount(8) wants it."""
    try:
        args, fake = translate(sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"mount.cosfs: {error}\n{_USAGE}\n")
        sys.exit(1)
    if fake:
        sys.exit(0)
    from .main import USAGE, run

    code = run(["--only-show-errors", *args])
    sys.exit({0: 0, USAGE: 1}.get(code, 32))


def translate(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments for `cos`, and whether nothing shall be done (-f)."""
    places: list[str] = []
    options: list[str] = []
    fake = False
    pending = iter(argv)
    for arg in pending:
        if arg in ("-o", "-t", "-N"):
            value = next(pending, None)
            if value is None:
                raise ValueError(f"{arg} needs a value")
            if arg == "-o":
                options.append(value)
        elif arg.startswith("-o"):
            options.append(arg[2:])
        elif arg.startswith("-") and arg != "-" and set(arg[1:]) <= set("sfnvw"):
            fake |= "f" in arg
        elif arg.startswith("-"):
            raise ValueError(f"there is no option {arg}")
        else:
            places.append(arg)
    if len(places) != 2:
        raise ValueError("a source and a mount point are needed")
    # mount -a mounts what the table of mounts does not have, word for word.
    args = ["mount", *places, f"--fsname={places[0]}"]
    for option in options:
        args += ["-o", option]
    return args, fake


def unmount() -> NoReturn:
    """Unmount when everything is sent, as `cos umount` does; the codes are those of main()."""
    args = ["umount"]
    pending = iter(sys.argv[1:])
    for arg in pending:
        if arg in ("-t", "-N"):
            next(pending, None)
        elif arg.startswith("-") and set(arg[1:]) <= set("flnrvsid"):
            args += ["--force"] * ("f" in arg) + ["--lazy"] * ("l" in arg)
        else:
            args.append(arg)
    from .main import USAGE, run

    code = run(["--only-show-errors", *args])
    sys.exit({0: 0, USAGE: 1}.get(code, 32))
