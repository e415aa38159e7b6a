"""The local stack: private servers and all processes of the service, for `make up` and the tests."""
