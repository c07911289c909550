"""Runs one LocalStack in the foreground and looks after it: `localstack/up` starts this, `localstack/down` ends it.

LocalStack comes from Docker Compose where an engine answers, otherwise as a Python process from packages alone (README.md).
Once it answers, a ready file (JSON) says where. It ends on SIGTERM, or when nobody has held the users file's lock for `--linger`
seconds: a test harness takes a shared flock on that file for as long as it lives, so nothing is left running however it dies.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parent / "target" / "localstack"


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    port = options.port or free_port()
    endpoint = f"http://127.0.0.1:{port}"
    options.data.mkdir(parents=True, exist_ok=True)
    users = options.users.open("a+", encoding="utf-8")
    started = time.monotonic()
    child, finish = docker(options, port) if options.mode == "docker" else process(options, port)
    try:
        wait_until_healthy(child, endpoint, options.timeout)
        ready = {
            "endpoint": endpoint,
            "region": "us-east-1",
            "pid": os.getpid(),
            "mode": options.mode,
            "users": str(options.users),
            "aws": str(TOOLS / "venv" / "bin" / "aws"),
            "seconds": round(time.monotonic() - started, 1),
        }
        partial = options.ready.with_suffix(".partial")
        partial.write_text(json.dumps(ready, indent=1) + "\n")
        partial.rename(options.ready)
        watch(child, users, options.linger)
    finally:
        # A second signal must not cut the clean-up short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        options.ready.unlink(missing_ok=True)
        finish()
        shutil.rmtree(options.data, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["docker", "process"], required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--linger", type=float, default=0, help="0: stay until told to end")
    parser.add_argument("--timeout", type=float, default=180)
    return parser.parse_args()


def settings(port):
    """What both ways have in common: loopback only, no downloads, no telemetry, Lambda functions as processes."""
    return {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
        "DNS_ADDRESS": "0",
        "DYNAMODB_IN_MEMORY": "1",
        "LAMBDA_KEEPALIVE_MS": "600000",
        # How long a new item may wait in the stream; the defaults let an idle stream sleep for ten seconds.
        "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.1",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.5",
        "EAGER_SERVICE_LOADING": "0",
        # A CloudFormation create asks every resource for its state again after this many seconds.
        "CFN_PER_RESOURCE_TIMEOUT": "120",
        "LS_LOG": os.environ.get("LS_LOG", "info"),
    }


def process(options, port):
    root = options.data / "root"
    libraries = root / "var" / "lib" / "localstack" / "lib"
    libraries.parent.mkdir(parents=True, exist_ok=True)
    if not libraries.is_symlink():
        libraries.symlink_to(TOOLS / "lib")
    scratch = options.data / "tmp"
    scratch.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LOCALSTACK_", "PYTHON"))}
    environment = {
        **kept,
        **settings(port),
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": str(root),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(HERE / "executor"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(scratch),
    }
    child = subprocess.Popen([sys.executable, "-m", "localstack.runtime.main"], env=environment, cwd=options.data, stdin=subprocess.DEVNULL)

    def finish():
        child.terminate()
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            pass
        # This process leads its own group (setsid): whatever LocalStack left behind, Java and functions included, goes with it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_group_members(signal.SIGTERM, 3)
        end_group_members(signal.SIGKILL, 2)

    return child, finish


def end_group_members(sign, seconds):
    """Signals all other members of this process group and waits until they are gone."""
    if os.getpgrp() != os.getpid():
        return
    until = time.monotonic() + seconds
    while members := group_members():
        for pid in members:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
        if time.monotonic() > until:
            return
        time.sleep(0.1)


def group_members():
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state, _, group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
        except (OSError, ValueError):
            continue
        if int(group) == os.getpgrp() and state != "Z":
            found.append(int(entry.name))
    return found


def docker(options, port):
    environment = {**os.environ, **{f"COUNTERSIGN_{name}": value for name, value in settings(port).items()}}
    environment["COUNTERSIGN_EXECUTOR"] = str(HERE / "executor")
    compose = ["docker", "compose", "--file", str(HERE / "compose.yaml"), "--project-name", f"countersign-localstack-{port}"]
    child = subprocess.Popen([*compose, "up", "--no-color"], env=environment, stdin=subprocess.DEVNULL)

    def finish():
        subprocess.run([*compose, "down", "--volumes", "--timeout", "10"], env=environment, stdin=subprocess.DEVNULL, check=False)
        child.wait(timeout=30)

    return child, finish


def wait_until_healthy(child, endpoint, timeout):
    until = time.monotonic() + timeout
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        if child.poll() is not None:
            sys.exit(f"LocalStack ended with code {child.returncode} before it was ready")
        try:
            with opener.open(f"{endpoint}/_localstack/health", timeout=2) as answer:
                if json.load(answer).get("version"):
                    return
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    sys.exit(f"LocalStack did not answer within {timeout:.0f} s")


def watch(child, users, linger):
    """Returns when nobody has used LocalStack for a while. The lock on `users` is then held until this process ends, so that
    who comes now waits and starts a new one, and does not find one that is about to go."""
    idle_since = time.monotonic()
    while True:
        time.sleep(0.5)
        if child.poll() is not None:
            sys.exit(f"LocalStack ended by itself with code {child.returncode}")
        if not linger:
            continue
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            idle_since = time.monotonic()
            continue
        if time.monotonic() - idle_since > linger:
            print(f"no user for {linger:.0f} s: ending", flush=True)
            return
        fcntl.flock(users, fcntl.LOCK_UN)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    main()
