"""A project of Django whose users are the callers: sync, async and streaming views, and Django REST framework.

python examples/django_project/manage.py migrate
python examples/django_project/manage.py createsuperuser --username ann --email ann@a.example
python examples/django_project/manage.py check
uvicorn examples.django_project.asgi:application        # or: gunicorn examples.django_project.wsgi:application
curl -c /tmp/ann -d 'username=ann&password=...' localhost:8000/login
curl -b /tmp/ann -i localhost:8000/v1/agents
python examples/django_project/manage.py awx_ratelimit show user_1
"""

import os
from pathlib import Path

from awx_ratelimit import Rule
from awx_ratelimit.adapters.django import DjangoUser

FOLDER = Path(os.environ.get("PROJECT_FOLDER", Path(__file__).parent))

ALLOWED_HOSTS = ["*"]
DEBUG = False
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example")
ROOT_URLCONF = "examples.django_project.urls"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "users.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    # Its checks and `manage.py awx_ratelimit`.
    "awx_ratelimit.adapters.django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # After AuthenticationMiddleware, because users are the callers.
    "awx_ratelimit.adapters.django.RateLimitMiddleware",
]
AWX_RATELIMIT = {
    "identify": DjangoUser(plan="starter"),
    # A file that all processes of this host share. Use "redis://..." for several hosts.
    "backend": os.environ.get("AWX_BACKEND", f"host://{FOLDER}/limits"),
    "rules": [Rule("/health", exempt=True), Rule("/login", exempt=True), Rule("/v1/report", cost=5)],
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
