"""The company's OpenID provider: who signs in to the console, and which role the groups of that person give.

- ``provider``  the requests: what the provider publishes, the authorization code flow, confirming a user again
- ``claims``    what is verified of an ID token, and what its claims say
- ``answers``   what the provider answers, and how it can fail
"""
