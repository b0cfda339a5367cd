"""The console for operators at ``/ops/``. Its pages are complete without its script, which refreshes them.

- ``application``  a separate application: who is admitted, which headers protect, which pages there are
- ``sign_in``      signing in and out, with ``sessions``, ``passwords`` and ``limits`` (how often one may try)
- ``oidc``         signing in by OpenID Connect
- ``overview``     the status of the service, with the bars of ``chart``
- ``deliveries``   lists by ``filter_form``, one delivery in full, and replaying it
- ``purchases``    finding a purchase by ``purchase_form``, and one with everything that happened to it
- ``replays``      replays: of many at once, one in full, cancelling
- ``webhooks``     the webhooks, with ``webhook_actions`` at OpenCard; ``reconcile`` the runs against its log
- ``errors``       what is wrong, as a page
- ``parts``        what every page uses; ``words`` how it says times and numbers
- ``models``       sessions, and sign-ins that failed
"""
