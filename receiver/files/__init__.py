"""Files: receipts are downloaded before their URLs expire, and kept by what is in them.

- ``schedule``        the job that downloads what is due; woken after a receipt was stored, and every few seconds
- ``fetch``           the steps of one file: claim, download, identify, store, complete; several in parallel
- ``downloads``       which files are wanted and what became of them: ``receiver.receipt_downloads``
- ``retry_schedule``  when a download is tried again, and when it is given up: pure
- ``kinds``           what a file is, by its bytes: pure
- ``store``           where files are kept: a folder, or whatever fsspec can write to
- ``standing``        the state of the downloads, for status and metrics
- ``find``            the files of a purchase or a content
- ``names``           names that people can read and any file system takes: pure
- ``copies``          files copied into a folder, for people

Asking OpenCard is ``receiver.opencard.files``; that a receipt is to be downloaded is noted by its handler.
"""
