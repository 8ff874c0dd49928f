"""An S3 endpoint on a free port, with one bucket; prints the port when it is ready."""

import http.client
import sys
import time

from moto.moto_server.threaded_moto_server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.request("PUT", "/" + sys.argv[1])
assert connection.getresponse().status == 200
print("port", port, flush=True)
while True:
    time.sleep(3600)
