"""The cloud over HTTP: the gateway, the requests and the responses."""
