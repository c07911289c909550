"""Keeps LocalStack's gateway on loopback: outside its image it listens on every interface, whatever GATEWAY_LISTEN says."""

from localstack.runtime import hooks


@hooks.on_infra_start(priority=100)
def listen_on_loopback():
    from twisted.internet import endpoints

    class LoopbackEndpoint(endpoints.TCP4ServerEndpoint):
        def __init__(self, reactor, port, backlog=50, interface="127.0.0.1"):
            super().__init__(reactor, port, backlog, interface)

    endpoints.TCP4ServerEndpoint = LoopbackEndpoint
