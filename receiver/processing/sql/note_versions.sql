-- Counts deliveries of versions that this release was not written for, though it applied them.
INSERT INTO receiver.unknown_versions AS known (event, version, deliveries)
SELECT event, version, deliveries FROM json_to_recordset(CAST(%(rows)s AS json)) AS passed (
    event text, version text, deliveries bigint
)
ON CONFLICT (event, version) DO UPDATE SET deliveries = known.deliveries + excluded.deliveries, last_at = excluded.last_at
