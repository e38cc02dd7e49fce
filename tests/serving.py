"""A service of kmedclf behind real sockets, and a client of it."""

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

BOUNDARY = "kmedclf-test"


class Client:
    """Sends requests to a port of 127.0.0.1; a connection each."""

    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=None, **headers):
        """Send a request: the status, and the body as JSON, or as text if it is none."""
        status, _, body = self.whole(method, path, body, **headers)
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body.decode()

    def whole(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def files(self, *files, path="/predict", **headers):
        """Post files, pairs of a name and bytes, as a browser does."""
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.ask("POST", path, form(*files), Content_Type=kind, **headers)

    def arrays(self, content, path="/predict"):
        """Post JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", path, body, Content_Type="application/json")


def form(*files):
    parts = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        "".encode()
        + content
        + b"\r\n"
        for name, content in files
    )
    return parts + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def running(application):
    """Run an application on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Client(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
