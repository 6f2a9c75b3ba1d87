"""Flask's settings for Airflow's sign-in pages (read by FAB: names in capitals count)."""

from datetime import timedelta

from airflow.configuration import conf
from flask_appbuilder.const import AUTH_DB

AUTH_TYPE = AUTH_DB
AUTH_USER_REGISTRATION = False  # an admin adds people
FAB_PASSWORD_COMPLEXITY_ENABLED = True  # FAB's rule, for passwords that people choose

WTF_CSRF_ENABLED = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = conf.get("api", "base_url", fallback="").startswith("https://")
PERMANENT_SESSION_LIFETIME = timedelta(hours=12)  # without a click or an open tab

AUTH_RATE_LIMITED = True
AUTH_RATE_LIMIT = (
    "5 per 40 second"  # of one address, at the form; evergreen.orchestration.sign_in_limit has the tokens'
)
RATELIMIT_STORAGE_URI = "memory://"
