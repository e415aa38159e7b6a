"""What the system can do. The composition root is :func:`services.app.open_app`."""
