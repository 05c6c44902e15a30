"""How to use other programs with the emulator: blocks to paste into a shell, each complete in itself."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cosfs.emulator import EmulatorInfo

_RECIPES = {
    "cos": """
        # cos, and cos mount
        export COS_ENDPOINT_URL={url} COS_REGION={region}
        export COS_SECRET_ID={id} COS_SECRET_KEY={key}
        cos ls cos://{bucket}/
        """,
    "python": """
        # Tencent's Python SDK (pip install cos-python-sdk-v5)
        python3 - <<'END'
        from qcloud_cos import CosConfig, CosS3Client
        config = CosConfig(
            Region='{region}', SecretId='{id}', SecretKey='{key}', Scheme='http',
            IP='{address}', Port={port}, ServiceDomain='{address}:{port}')
        client = CosS3Client(config)
        print(client.list_objects(Bucket='{bucket}'))
        END
        """,
    "go": """
        # Tencent's Go SDK; *.localhost has to resolve (/etc/hosts: 127.0.0.1 {bucket}.localhost)
        bucketURL, _ := url.Parse("http://{bucket}.localhost:{port}")
        serviceURL, _ := url.Parse("http://localhost:{port}")
        client := cos.NewClient(&cos.BaseURL{{BucketURL: bucketURL, ServiceURL: serviceURL}}, &http.Client{{
            Transport: &cos.AuthorizationTransport{{SecretID: "{id}", SecretKey: "{key}"}},
        }})
        // Without names: BucketURL http://{address}:{port}, and client.Host =
        // "{bucket}.cos.{region}.myqcloud.com"
        """,
    "node": """
        # Tencent's Node SDK (npm install cos-nodejs-sdk-v5)
        node - <<'END'
        const COS = require('cos-nodejs-sdk-v5');
        const cos = new COS({{
          SecretId: '{id}', SecretKey: '{key}', Protocol: 'http:',
          Domain: '{{Bucket}}.cos.{{Region}}.myqcloud.com', Ip: '{address}:{port}',
          ServiceDomain: 'http://{address}:{port}',
        }});
        cos.getBucket({{Bucket: '{bucket}', Region: '{region}'}}).then(console.log, console.error);
        END
        """,
    "coscmd": """
        # coscmd (pip install coscmd)
        cat > cos.conf <<'END'
        [common]
        secret_id = {id}
        secret_key = {key}
        bucket = {bucket}
        region = {region}
        schema = http
        END
        http_proxy={url} coscmd -c cos.conf list
        """,
    "coscli": """
        # coscli; *.localhost has to resolve (/etc/hosts: 127.0.0.1 {bucket}.localhost)
        coscli -e localhost:{port} -p http -i {id} -k {key} --init-skip ls cos://{bucket}/
        """,
    "cosfs": """
        # Tencent's cosfs
        echo {bucket}:{id}:{key} > cosfs.passwd && chmod 600 cosfs.passwd
        mkdir -p mnt
        cosfs {bucket} mnt -ourl=http://localhost:{port} -opasswd_file=$PWD/cosfs.passwd -onoxattr
        """,
    "boto3": """
        # boto3 (pip install boto3)
        python3 - <<'END'
        import boto3
        from botocore.config import Config
        client = boto3.client(
            's3', endpoint_url='{url}', region_name='{region}', aws_access_key_id='{id}',
            aws_secret_access_key='{key}', config=Config(s3={{'addressing_style': 'path'}}))
        print(client.list_objects(Bucket='{bucket}'))
        END
        """,
    "rclone": """
        # rclone
        cat > rclone.conf <<'END'
        [emulator]
        type = s3
        provider = Other
        endpoint = {url}
        access_key_id = {id}
        secret_access_key = {key}
        region = {region}
        force_path_style = true
        END
        rclone --config rclone.conf ls emulator:{bucket}
        """,
    "s3fs": """
        # s3fs
        echo {id}:{key} > s3fs.passwd && chmod 600 s3fs.passwd
        mkdir -p mnt
        s3fs {bucket} mnt -o url={url},use_path_request_style,passwd_file=$PWD/s3fs.passwd
        """,
    "proxy": """
        # Any program with built-in host names, over http
        export http_proxy={url}
        """,
}
_HTTPS = """
        # ... and over https
        export https_proxy={url}
        export SSL_CERT_FILE={ca} REQUESTS_CA_BUNDLE={ca} NODE_EXTRA_CA_CERTS={ca}
        export CURL_CA_BUNDLE={ca} COS_CA_BUNDLE={ca}
        """
CLIENTS = tuple(_RECIPES)


def recipe(client: str, info: EmulatorInfo, bucket: str = "") -> str:
    """Return what to paste for a client."""
    text = dedent(_RECIPES[client]).strip()
    if client == "proxy" and info.https_url:
        text += "\n" + dedent(_HTTPS).strip()
    return text.format(**_values(info, bucket))


def short_hints(info: EmulatorInfo, bucket: str = "") -> str:
    """Return a line for each way to get here."""
    lines = (
        ("Python SDK", "Scheme='http', IP='{address}', Port={port}, ServiceDomain='{address}:{port}'"),
        (
            "Node SDK",
            "Protocol 'http:', Domain '{{Bucket}}.cos.{{Region}}.myqcloud.com', Ip '{address}:{port}'",
        ),
        ("Go SDK", "BucketURL http://{bucket}.localhost:{port}"),
        ("coscmd, others", "http_proxy={url}"),
        ("cosfs, coscli", "http://localhost:{port}"),
        ("boto3, rclone, s3fs", "{url}, path style"),
    )
    values = _values(info, bucket)
    shown = "".join(f"  {name:<20} {text.format(**values)}\n" for name, text in lines)
    return f"Other programs (whole recipes: --recipes [{'|'.join(CLIENTS)}]):\n{shown.rstrip()}"


def _values(info: EmulatorInfo, bucket: str) -> dict[str, object]:
    place = urlsplit(info.endpoint_url)
    bucket = bucket or "demo"
    if not (bucket.rpartition("-")[2].isdigit() and "-" in bucket):
        bucket = f"{bucket}-{info.appid}"
    host = place.hostname or ""
    return {
        "url": info.endpoint_url,
        "address": f"[{host}]" if ":" in host else "127.0.0.1" if host == "localhost" else host,
        "port": place.port,
        "region": info.region,
        "id": info.secret_id,
        "key": info.secret_key,
        "bucket": bucket,
        "ca": info.ca_file,
    }
