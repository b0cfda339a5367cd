"""The WSGI application for gunicorn: ``gunicorn --config python:receiver.gunicorn_conf receiver.wsgi:app``."""

import os

from receiver.app import create_app
from receiver.settings import load_settings

app = create_app(load_settings(os.environ))
