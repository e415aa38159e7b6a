"""What the system can do. The composition root is :func:`services.app.open_app`."""

from services import lazy_models

# Here, because this is the one place that runs before whatever of ours imports aiogram.
lazy_models.install()
