"""Signs a user in, verifies the session's token, and signs the user out."""

import os

from sessiond_client import Client

sessions = Client(os.environ["SESSIOND_URL"], os.environ["SESSIOND_KEY"])
user_id = "00000000-0000-4000-8000-000000000001"
created = sessions.create_session(user_id=user_id, issue_token=True)
print(sessions.verify_token(created.token).status)  # live
sessions.revoke_session(created.id, reason="signed out")
print(sessions.verify_token(created.token).status)  # revoked
