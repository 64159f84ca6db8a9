"""An imitation of a model hub for tests: the API and the small files on one port, large files behind a redirect on another, as the
real one has them on another host. Faults are attributes; what was asked and what was served is written down.

    with Hub({"config.json": b"{}", "model.safetensors": data}) as hub:
        hub.cut_after = [1000000]            # the first answer of the second port ends after 1,000,000 bytes
        t.run("pull", "hf:org/name", env=hub.env())
        assert hub.served["model.safetensors"] == len(data)
"""
import functools
import hashlib
import json
import socketserver
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 64 << 10
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@functools.lru_cache
def blob_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@functools.lru_cache
def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        """Without http.server's question for the host's name, which may take long where no network is."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    def handle_error(self, request, client_address):
        """Clients that are killed leave connections behind: nothing to say."""


class Hub:
    def __init__(self, files, large=100000, page=1000):
        self.files, self.large, self.page = dict(files), large, page
        self.commit = COMMIT
        self.served, self.requests = Counter(), []   # bytes by path; (port, path, Range, Authorization)
        self.listed = {}                # path: fields that the list has wrong
        self.listed_first = []          # entries of the list that no file is behind
        self.content = {}               # path: what is served instead
        self.token = None               # asked for, where set
        self.gated_only_files = False   # the API answers without it
        self.revisions = {"main"}
        self.renamed_from = None        # "org/old": redirects to this repository
        self.ranges = True              # False: 200 where a range is asked for; 416: that
        self.content_range = None       # sent instead of the right one
        self.cut_after = []             # bytes after which answers of the second port end, one each
        self.busy = []                  # (status, Retry-After or None) for the next answers with files
        self.busy_api = []              # the same of the API
        self.length_less = 0            # bytes that Content-Length and the body lack
        self.list_cut = None            # bytes of JSON that are sent, with a right Content-Length
        self.link = None                # sent as Link instead of the right one
        self.hold_at = None             # bytes of a large file after which the servers wait until this is None again
        self.lock = threading.Lock()

    # ---- servers ----

    def __enter__(self):
        self.servers = []
        for handler in (self.api, self.storage):
            server = Server(("127.0.0.1", 0), self.handler(handler))
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            self.servers.append(server)
        self.endpoint, self.other = (f"http://127.0.0.1:{s.server_address[1]}" for s in self.servers)
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def env(self, token=None):
        return {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": token or "", "no_proxy": "*"}

    def handler(self, answer):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True # header and body are sent one after the other: the body would wait 40 ms for an answer

            def log_message(self, *_):
                pass

            def do_GET(self):
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
        return Handler

    def note(self, port, request):
        with self.lock:
            self.requests.append((port, request.path, request.headers.get("Range"), request.headers.get("Authorization")))

    def next_of(self, queue):
        with self.lock:
            return queue.pop(0) if queue else None

    # ---- answers ----

    @staticmethod
    def send(request, status, body=b"", **headers):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), str(value))
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def refuse(self, request, status, retry_after):
        self.send(request, status, b"busy", **({"Retry-After": retry_after} if retry_after is not None else {}))

    def entries(self):
        out = list(self.listed_first)
        for path, data in sorted(self.files.items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob_sha1(data)}
            if len(data) >= self.large:
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
                entry["oid"] = blob_sha1(b"pointer")
            entry.update(self.listed.get(path, {}))
            out.append(entry)
        folders = {path.rsplit("/", 1)[0] for path in self.files if "/" in path}
        return [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in sorted(folders)] + out

    def api(self, request):
        self.note("hub", request)
        url = urllib.parse.urlsplit(request.path)
        path = urllib.parse.unquote(url.path)
        is_file = "/resolve/" in path
        if self.renamed_from and self.renamed_from in path:
            return self.send(request, 307, Location=request.path.replace(self.renamed_from, "org/name"))
        busy = self.next_of(self.busy if is_file else self.busy_api)
        if busy:
            return self.refuse(request, *busy)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}" and (is_file or not self.gated_only_files):
            return self.send(request, 401, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access to model org/name is restricted.")
        if "org/name" not in path:
            return self.send(request, 404, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if path.startswith("/api/models/org/name/revision/"):
            if path.split("/revision/")[1] not in self.revisions:
                return self.send(request, 404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            return self.send(request, 200, json.dumps({"id": "org/name", "sha": self.commit}).encode())
        if path == f"/api/models/org/name/tree/{self.commit}":
            return self.send_list(request, urllib.parse.parse_qs(url.query))
        if is_file:
            commit, name = path.split("/resolve/")[1].split("/", 1)
            if commit != self.commit or name not in self.files:
                return self.send(request, 404, b"", X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            if len(self.files[name]) >= self.large:
                return self.send(request, 302, b"Found", Location=f"{self.other}/blob/{urllib.parse.quote(name)}?signature=secret")
            return self.send_file(request, name)
        self.send(request, 404)

    def send_list(self, request, query):
        begin = int(query.get("cursor", ["0"])[0])
        entries = self.entries()
        body = json.dumps(entries[begin:begin + self.page]).encode()
        headers = {}
        if begin + self.page < len(entries):
            headers["Link"] = f'<{self.endpoint}{request.path.split("?")[0]}?recursive=true&cursor={begin + self.page}>; rel="next"'
        if self.link is not None:
            headers["Link"] = self.link
        self.send(request, 200, body[:self.list_cut], **headers)

    def storage(self, request):
        self.note("storage", request)
        busy = self.next_of(self.busy)
        if busy:
            return self.refuse(request, *busy)
        self.send_file(request, urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)[len("/blob/"):])

    def send_file(self, request, name):
        data = self.content.get(name, self.files[name])
        begin, end, wanted = 0, len(data), request.headers.get("Range")
        if wanted and self.ranges == 416:
            return self.send(request, 416)
        partial = wanted and self.ranges
        if partial:
            first, last = wanted.split("=")[1].split("-")
            begin, end = int(first), min(int(last) + 1, len(data))
        end -= self.length_less
        request.send_response(206 if partial else 200)
        if partial:
            request.send_header("Content-Range", self.content_range or f"bytes {begin}-{end - 1}/{len(data)}")
        request.send_header("Content-Length", str(end - begin))
        request.end_headers()
        cut = self.next_of(self.cut_after) if len(data) >= self.large else None
        stop = end if cut is None else min(end, begin + cut)
        for at in range(begin, stop, CHUNK):
            chunk = data[at:min(at + CHUNK, stop)]
            request.wfile.write(chunk)
            with self.lock:
                self.served[name] += len(chunk)
            while self.hold_at is not None and len(data) >= self.large and self.served[name] >= self.hold_at:
                time.sleep(0.005)
        if stop < end:
            request.close_connection = True
