"""Django's cached_db sessions: PostgreSQL behind Redis, as its documentation shows them.

gunicorn peer:application, with REDIS_URL, POSTGRES_PORT in the environment; `python peer.py migrate` first.
"""

import json
import os
import sys

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="a secret of thirty-two characters",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cached_db",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["REDIS_URL"]}},
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": os.environ["POSTGRES_PORT"],
            "USER": "postgres",
            "NAME": "django",
            "OPTIONS": {"pool": True},
        }
    },
    USE_TZ=True,
)
django.setup()


def sign_in(request):
    request.session["device"] = json.loads(request.body)
    return HttpResponse(status=204)


def read(request):
    device = request.session.get("device")
    return JsonResponse(device) if device else HttpResponse(status=401)


urlpatterns = [path("sign-in", sign_in), path("session", read)]
application = WSGIHandler()

if __name__ == "__main__":
    from django.core.management import call_command

    call_command(sys.argv[1], verbosity=0)
