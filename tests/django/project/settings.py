"""Of the tests' project. What a test changes comes from the environment."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

BASE_DIR = Path(os.environ.get("PROJECT_BASE", str(Path(__file__).parent)))
SECRET_KEY = "only for tests"
DEBUG = os.environ.get("PROJECT_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "spooled_contrib.django",
    "shop",
    *json.loads(os.environ.get("PROJECT_APPS", "[]")),
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = json.loads(os.environ.get("PROJECT_DATABASES", "null")) or {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("PROJECT_DB", str(BASE_DIR / "db.sqlite3")),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    },
}
SPOOLED = {
    "WORKER": {"poll_interval": 0.1},
    "CLIENT": {"retry": {"max_retries": 0}},
    **json.loads(os.environ.get("PROJECT_SPOOLED", "{}")),
}
_tasks = "django.tasks" if find_spec("django.tasks") else "django_tasks"
TASKS = {
    "default": {
        "BACKEND": "spooled_contrib.django.tasks.SpooledBackend",
        "QUEUES": ["default", "slow"],
        "OPTIONS": {"MAX_RETRIES": 1},
    },
    "other": {
        "BACKEND": "spooled_contrib.django.tasks.SpooledBackend",
        "QUEUES": [],
        "OPTIONS": {"MAX_RETRIES": 0, "TIMEOUT": 60, "TAGS": ["task"]},
    },
    "immediate": {"BACKEND": f"{_tasks}.backends.immediate.ImmediateBackend"},
}
