"""Servers and programs of one run, on loopback, in a directory of their own that goes away with them."""

import atexit
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RUST = HERE / "rust" / "target" / "release"
SESSIOND = ROOT / "target" / "release" / "sessiond"
SECRET = "a secret of the bench, thirty-two characters"
SERVICE_KEY = "a service key of the bench, thirty-two characters"
DEVICE = {
    "user_id": "00000000-0000-4000-8000-00000000000a",
    "device_info": "Chrome on macOS",
    "ip_address": "203.0.113.7",
    "location": "Berlin, DE",
    "created_at": "2026-11-23T18:56:10.123456Z",
    "last_activity_at": "2026-11-23T18:56:10.123456Z",
    "expires_at": "2026-12-23T18:56:10.123456Z",
}
USER_AGENT = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for_port(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} has ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"{process.args[0]} does not listen")


def call(method, url, body=None, headers=None, timeout=60):
    """Status, headers, text."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def token(user_id, session_id):
    """A JWT of a day, HS256."""

    def encode(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    claims = {"sub": user_id, "sid": session_id, "iat": int(time.time()), "exp": int(time.time()) + 86400}
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = b".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return (signed + b"." + encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


class Machine:
    """One private PostgreSQL, one private Redis, and whatever is started beside them."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-bench-"))
        self.dir.chmod(0o755)
        self.processes = []
        atexit.register(self.close)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self._start_postgres()
        self.redis_port = free_port()
        redis = ["redis-server", "--port", self.redis_port, "--save", "", "--appendonly", "no", "--dir", self.dir]
        wait_for_port(self.redis_port, self.start(redis))

    def _start_postgres(self):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not found:
            sys.exit("no PostgreSQL: apt-get install postgresql")
        self.postgres_bin = found[-1]
        data = self.dir / "postgres"
        data.mkdir()
        # PostgreSQL refuses to be root.
        self.postgres_user = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(data, user.pw_uid, user.pw_gid)
            self.postgres_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        run(self.postgres_bin / "initdb", "-D", data / "data", "-U", "postgres", "-A", "trust", "--no-sync",
            cwd=data, **self.postgres_user)
        self.postgres_port = free_port()
        settings = ["shared_buffers=2GB", "max_connections=200", "max_wal_size=16GB", "fsync=off", f"port={self.postgres_port}"]
        server = [self.postgres_bin / "postgres", "-D", data / "data", "-k", data]
        for setting in settings:
            server += ["-c", setting]
        wait_for_port(self.postgres_port, self.start(server, cwd=data, **self.postgres_user))
        time.sleep(1)

    def start(self, command, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
        self.processes.append(process)
        return process

    def stop(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.remove(process)

    def close(self):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                # To PostgreSQL: end now, whoever is connected.
                os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def redis_url(self):
        return f"redis://127.0.0.1:{self.redis_port}"

    def redis(self, *command):
        return run("redis-cli", "-p", self.redis_port, *command).strip()

    def postgres_url(self, database):
        return f"postgres://postgres@127.0.0.1:{self.postgres_port}/{database}"

    def sql(self, database, text):
        return run(self.postgres_bin / "psql", "-h", "127.0.0.1", "-p", self.postgres_port, "-U", "postgres", "-qAt",
                   "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text).strip()

    def create_database(self, name):
        self.sql("postgres", f"CREATE DATABASE {name}")


class Sessiond:
    """One node, as it would run in production but for loopback."""

    def __init__(self, machine, database, redis=True, near_entries=100_000, **settings):
        self.machine = machine
        self.port, self.service_port = free_port(), free_port()
        dir = pathlib.Path(tempfile.mkdtemp(dir=machine.dir))
        environment = {
            "SERVER__LISTEN": f"127.0.0.1:{self.port}",
            "SERVER__SERVICE_LISTEN": f"127.0.0.1:{self.service_port}",
            "STORE__URL": machine.postgres_url(database) if database else f"sqlite://{dir}/sessiond.db",
            "CACHE__URL": machine.redis_url if redis else "none",
            "CACHE__NEAR_ENTRIES": str(near_entries),
            "AUTH__JWT__HS256_SECRET": SECRET,
            "AUTH__SERVICE_KEY_HASHES": hashlib.sha256(SERVICE_KEY.encode()).hexdigest(),
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        environment = {f"SESSIOND_{name}": value for name, value in environment.items()}
        began = time.monotonic()
        self.process = machine.start([SESSIOND], cwd=dir, env={**os.environ, **environment}, stderr=open(dir / "log", "w"))
        wait_for_port(self.service_port, self.process)
        while self.service("GET", "/readyz")[0] != 200:
            time.sleep(0.002)
        self.ready_after = time.monotonic() - began

    def service(self, method, path, body=None):
        url = f"http://127.0.0.1:{self.service_port}{path}"
        return call(method, url, body, {"authorization": f"Bearer {SERVICE_KEY}"}, timeout=600)

    def sign_in(self, user_id):
        body = {"user_id": user_id, "ip_address": DEVICE["ip_address"], "user_agent": USER_AGENT}
        status, _, text = self.service("POST", "/service/v1/sessions", body)
        assert status == 201, text
        return json.loads(text)["id"]

    def resident(self):
        """Bytes."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024

    def stop(self):
        self.machine.stop(self.process)
