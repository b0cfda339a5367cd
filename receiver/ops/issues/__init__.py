"""Issues: what needs attention, over time. Each opens and resolves itself by what holds, and people answer it.

``lifecycle`` decides, without a database. ``store`` keeps. ``notifications`` sends each change of state to the
addresses of ``NOTIFY_URLS``. ``watch`` runs both in the scheduler, in a separate thread, so also while Redis is away.
"""
