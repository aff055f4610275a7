"""A small application over sessiond: sign in, see your devices, sign out this one or the others."""

import os
import sys
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_POST, require_safe
from sessiond_client import SessiondError, clear_cookie
from sessiond_client.django import client

# Checking passwords is the application's own: store hashes of them.
USERS = {
    "ada": ("00000000-0000-4000-8000-00000000000a", "lovelace"),
    "alan": ("00000000-0000-4000-8000-00000000000b", "turing"),
}

FORM = mark_safe("""<form method="post" action="/sign-in"><input name="name" placeholder="name">
<input name="password" type="password" placeholder="password"><button>Sign in</button></form>""")

PAGE = """<h1>Hello, {}</h1><ul>{}</ul>
<form method="post" action="/sign-out"><button>Sign out</button></form>
<form method="post" action="/sign-out-others"><button>Sign out other devices</button></form>"""


def sign_in(request):
    if request.method != "POST":
        return HttpResponse(FORM)
    user_id, password = USERS.get(request.POST.get("name"), (None, None))
    if password is None or request.POST.get("password") != password:
        return HttpResponse(format_html("<p>Wrong name or password.</p>{}", FORM), status=401)
    created = client().create_session(
        user_id=user_id,
        ip_address=request.META["REMOTE_ADDR"],
        user_agent=request.headers.get("User-Agent"),
        issue_token=True,
    )
    return HttpResponse(status=303, headers={"Location": "/", "Set-Cookie": created.set_cookie})


@require_safe
def page(request):
    own = request.user_session
    name = next((name for name, (id, _) in USERS.items() if id == str(own.user_id)), "stranger")
    sessions = client().list_user_sessions(own.user_id, active_only=True).sessions
    devices = [
        (
            session.device_info or "unknown device",
            session.ip_address or "unknown address",
            ", this device" if session.id == own.id else "",
        )
        for session in sessions
    ]
    items = format_html_join("", "<li>{}, {}{}</li>", devices)
    return HttpResponse(format_html(PAGE, name, items))


@require_POST
def sign_out(request):
    client().revoke_session(request.user_session.id, reason="signed out")
    return HttpResponse(status=303, headers={"Location": "/sign-in", "Set-Cookie": clear_cookie()})


@require_POST
def sign_out_others(request):
    own = request.user_session
    client().revoke_all_user_sessions(
        own.user_id, reason="signed out elsewhere", except_session_id=own.id
    )
    return HttpResponse(status=303, headers={"Location": "/"})


class Unavailable:
    """Responds where sessiond refuses a call or cannot be reached: that signs nobody out."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, error):
        if not isinstance(error, SessiondError):
            return None
        print(error, file=sys.stderr)
        text = "Sessions cannot be reached at present. Please try again."
        return HttpResponse(text, status=503, headers={"Retry-After": "1"})


urlpatterns = [
    path("", page),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("sign-out-others", sign_out_others),
]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    # Django's CSRF middleware is left out: RequireSession refuses other sites' changes by the
    # session cookie, and the application has no other cookie.
    MIDDLEWARE=["sessiond_client.django.RequireSession", f"{__name__}.Unavailable"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.urandom(32).hex(),
    SESSIOND_URL=os.environ["SESSIOND_URL"],
    SESSIOND_KEY=os.environ["SESSIOND_KEY"],
    SESSIOND_SIGN_IN_PATH="/sign-in",
)
address = ("127.0.0.1", int(os.environ["PORT"]))
server = make_server(*address, get_wsgi_application(), ThreadedWSGIServer, WSGIRequestHandler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
