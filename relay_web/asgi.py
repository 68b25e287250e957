"""The ASGI application: Django for pages, Channels for the live socket."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_web.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # before anything that imports models

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings

from relay_web.proxies import ClientAddress
from workers import attendant, sockets
from workers.urls import websocket_urlpatterns

sockets.install()
attendant.when_serving()
application = ClientAddress(
    ProtocolTypeRouter(
        {
            "http": django_application,
            "websocket": URLRouter(websocket_urlpatterns),  # who comes in is looked at by workers.door
        }
    ),
    settings.RELAY_TRUSTED_PROXIES,
)
