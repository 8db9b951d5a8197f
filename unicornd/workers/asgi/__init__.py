"""What the kind `asgi` is made of; everything but the HTTP and WebSocket protocols, which are uvicorn's."""
