"""Issues: what needs attention, over time. Each opens and resolves by itself; operators acknowledge or resolve it.

``lifecycle`` decides, without a database. ``store`` reads and writes. ``notifications`` sends each change of state to
the addresses of ``NOTIFY_URLS``. ``watch`` runs both in threads of the scheduler, which do not need Redis.
"""
