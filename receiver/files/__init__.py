"""Files: receipts are downloaded before their URLs expire, and stored under the hash of their content.

- ``schedule``        the job that downloads what is due; woken after a receipt was stored, and every few seconds
- ``fetch``           the steps of one file: claim, download, identify, store, complete; several in parallel
- ``downloads``       the files to download, and the outcome of each: ``receiver.receipt_downloads``
- ``retry_schedule``  when a download is tried again, and when it is given up: pure
- ``kinds``           the type of a file, from its bytes: pure
- ``store``           where files are kept: a folder, or whatever fsspec can write to
- ``find``            the files of a purchase or a content
- ``names``           readable file names that are valid on every file system: pure
- ``copies``          files copied into a folder, for people

``receiver.opencard.files`` sends the request. ``receiver.processing.downloads`` notes which files are to be downloaded.
"""
