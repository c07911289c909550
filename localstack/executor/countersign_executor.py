"""Runs Lambda functions of LocalStack as plain processes instead of containers.

LocalStack finds this module by the entry point beside it (the folder is put on PYTHONPATH, nothing is installed) and picks it
with LAMBDA_RUNTIME_EXECUTOR=process. It serves custom runtimes (`provided.al2023`): the zip's `bootstrap` is started with
AWS_LAMBDA_RUNTIME_API naming a loopback server that speaks the Runtime API
(https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), as on AWS. One execution environment serves one invocation at
a time; LocalStack starts more of them when it needs more.

It is no sandbox: the function runs as the user who started LocalStack. It is for tests, never for code one does not trust.
"""

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

LOG = logging.getLogger(__name__)
API = "/2018-06-01/runtime/"


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    name = "process"

    def load(self, *args, **kwargs):
        return ProcessExecutor


class ProcessExecutor(RuntimeExecutor):
    """One execution environment: a Runtime API server on a free port and the bootstrap process that polls it."""

    def __init__(self, id, function_version):
        super().__init__(id, function_version)
        self.process = None
        self.generation = 0
        self.stopping = False
        self.waiting = queue.Queue()
        self.answers = queue.Queue()
        self.env = {}
        self.log = None
        self.server = None

    # -- life

    def start(self, env_vars):
        # The Runtime API server is bound here, the process starts now so that a broken zip shows at once.
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            **{name: str(value) for name, value in env_vars.items()},
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "LAMBDA_TASK_ROOT": str(self.code()),
        }
        self.log = tempfile.TemporaryFile()
        self.spawn()

    def spawn(self):
        bootstrap = self.code() / "bootstrap"
        if not os.access(bootstrap, os.X_OK):
            os.chmod(bootstrap, 0o755)
        self.generation += 1
        self.process = subprocess.Popen(
            [str(bootstrap)], cwd=self.code(), env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def stop(self):
        self.stopping = True
        self.kill()
        if self.server:
            self.server.shutdown()
            self.server.server_close()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # -- one invocation

    def invoke(self, payload):
        request_id = payload["invoke-id"]
        limit = float(self.function_version.config.timeout or 30)
        deadline = time.time() + limit
        before = self.log_size()
        while not self.answers.empty():
            self.answers.get_nowait()
        if self.process.poll() is not None:
            self.spawn()
        self.waiting.put({**payload, "deadline": int(deadline * 1000)})
        while True:
            try:
                answered, body, is_error = self.answers.get(timeout=0.05)
                if answered == request_id:
                    break
                continue
            except queue.Empty:
                pass
            if self.process.poll() is not None and self.answers.empty():
                body, is_error = failure(
                    "Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited with code {self.process.returncode}"
                )
                break
            if time.time() > deadline:
                self.kill()
                body, is_error = failure("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {limit:.2f} seconds")
                break
        while is_error and not self.waiting.empty():
            self.waiting.get_nowait()
        logs = f"START RequestId: {request_id}\n{self.log_since(before)}END RequestId: {request_id}"
        LOG.debug("%s: %s", self.function_version.id.function_name, logs)
        return InvocationResult(request_id, body, is_error=is_error, logs=logs)

    # -- what LocalStack asks for

    def code(self):
        return self.function_version.config.code.get_unzipped_code_location()

    def log_size(self):
        return os.fstat(self.log.fileno()).st_size

    def log_since(self, offset):
        return os.pread(self.log.fileno(), 256 * 1024, offset).decode("utf-8", "replace")

    def get_logs(self):
        return self.log_since(0) if self.log else ""

    def get_address(self):
        return "127.0.0.1"

    def get_endpoint_from_executor(self):
        return "127.0.0.1"

    def get_runtime_endpoint(self):
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    @classmethod
    def prepare_version(cls, function_version):
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version):
        if function_version.config.code:
            function_version.config.code.destroy_cached()

    @classmethod
    def validate_environment(cls):
        return True


def failure(kind, message):
    return json.dumps({"errorType": kind, "errorMessage": message}).encode(), True


def handler_for(executor):
    class RuntimeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, status, headers=(), body=b""):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            if self.path != API + "invocation/next":
                return self.answer(404)
            asked_by = executor.generation
            while not executor.stopping and asked_by == executor.generation:
                try:
                    event = executor.waiting.get(timeout=0.5)
                except queue.Empty:
                    continue
                if asked_by == executor.generation:
                    break
                executor.waiting.put(event)  # the process that asked is gone: the event belongs to its successor
            else:
                self.close_connection = True
                return None
            return self.answer(
                200,
                [
                    ("Content-Type", "application/json"),
                    ("Lambda-Runtime-Aws-Request-Id", event["invoke-id"]),
                    ("Lambda-Runtime-Deadline-Ms", str(event["deadline"])),
                    ("Lambda-Runtime-Invoked-Function-Arn", event["invoked-function-arn"]),
                    ("Lambda-Runtime-Trace-Id", event.get("trace-id", "")),
                ],
                event["payload"].encode(),
            )

        def do_POST(self):
            body = self.body()
            parts = self.path.removeprefix(API).split("/")
            if parts[0] == "invocation" and len(parts) == 3 and parts[2] in ("response", "error"):
                executor.answers.put((parts[1], body, parts[2] == "error"))
            elif parts != ["init", "error"]:
                return self.answer(404)
            return self.answer(202, [("Content-Type", "application/json")], b'{"status":"OK"}')

        def body(self):
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return data

    return RuntimeApi
