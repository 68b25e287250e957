"""Django's settings. What a deployment decides comes from the environment, see ``environment``."""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_INLINE

from . import environment

BASE_DIR = Path(__file__).resolve().parent.parent
ENVIRONMENT = environment.read()

# The product
RELAY_HOME = ENVIRONMENT.home
RELAY_HOST = ENVIRONMENT.host
RELAY_STATE = ENVIRONMENT.state
RELAY_URL = ENVIRONMENT.url
RELAY_TRUSTED_PROXIES = ENVIRONMENT.trusted_proxies
RELAY_POLL_SECONDS = ENVIRONMENT.poll_seconds
RELAY_EVENT_DAYS = ENVIRONMENT.event_days
RELAY_DEMO = ENVIRONMENT.demo
RELAY_COMMANDS = ENVIRONMENT.commands
RELAY_METRICS_TOKEN = ENVIRONMENT.metrics_token

# Django
SECRET_KEY = ENVIRONMENT.secret_key
SECRET_KEY_FALLBACKS = ENVIRONMENT.secret_key_fallbacks
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = ENVIRONMENT.allowed_hosts
DATABASES = {"default": ENVIRONMENT.database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "relay_web.urls"
ASGI_APPLICATION = "relay_web.asgi.application"
INSTALLED_APPS = [
    # What only pages need is loaded with the pages: every other command starts in half the time without it
    *(["daphne"] if "runserver" in sys.argv else []),
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "channels",
    "csp",
    "django_filters",
    "django_htmx",
    "workers",
]
MIDDLEWARE = [
    "relay_web.probes.ProbeMiddleware",  # before everything that could refuse or redirect a probe
    "django.middleware.security.SecurityMiddleware",
    "relay_web.static_files.StaticFilesMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

# Language and time: everything is stored and computed in UTC, and browsers show their own zone
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "relay_web.formats"

# Static files come straight from the checkout, so no step is needed before a start
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

# Who may come in
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "fleet"
LOGOUT_REDIRECT_URL = "login"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # the client's, also behind a proxy: see ``proxies``
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

# What a browser may do with our pages. Only an https address turns on what needs https.
_secure = RELAY_URL.startswith("https://")
_socket = [f"{'wss' if _secure else 'ws'}://{urlsplit(RELAY_URL).netloc}"] if RELAY_URL else []
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "connect-src": [SELF, *_socket],
        "img-src": [SELF, "data:"],
        "style-src": [SELF],
        "style-src-attr": [UNSAFE_INLINE],  # meters are as wide as their value
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
CSRF_TRUSTED_ORIGINS = [RELAY_URL] if RELAY_URL else []
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT = _secure
SESSION_COOKIE_NAME = "relay_session"
CSRF_COOKIE_NAME = "relay_csrf"
# A scraper speaks to us directly, where there is no TLS; by the time of a redirect its token has travelled already.
SECURE_REDIRECT_EXEMPT = [r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if _secure else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _secure
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _secure else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"workers": {"level": "INFO"}, "axes": {"level": "ERROR"}},
}
