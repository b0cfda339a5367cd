-- Readers of the feed that say how far they have read.

CREATE TABLE ems.consumers (
    name TEXT NOT NULL,
    role TEXT,
    "position" BIGINT DEFAULT 0 NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_consumers PRIMARY KEY (name)
);
COMMENT ON TABLE ems.consumers IS 'Readers of the feed that report how far they have read, one row each. Written by ems.commit_position(name, position) and receiver db grant-reader. As long as a consumer is registered, no event that it has not read can be deleted.';
COMMENT ON COLUMN ems.consumers.name IS 'Name of the consumer, as it was granted; by default the name of its role';
COMMENT ON COLUMN ems.consumers.role IS 'Role that may commit positions under this name, besides the owner of the schema; null: the role of that name';
COMMENT ON COLUMN ems.consumers."position" IS 'Position of ems.events up to which it has read, and stored its results; 0 until it commits one';
COMMENT ON COLUMN ems.consumers.registered_at IS 'When it was granted, or first committed a position, in UTC';
COMMENT ON COLUMN ems.consumers.updated_at IS 'When it last committed a position, in UTC; null until it commits one';

-- It runs with the rights of the schema's owner, so it checks who calls: session_user is the role that logged in.

CREATE FUNCTION ems.commit_position(name text, "position" bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner oid := (SELECT nspowner FROM pg_namespace WHERE nspname = 'ems');
    known ems.consumers;
    newest bigint := greatest(
        (SELECT max(event.position) FROM ems.events AS event),
        (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
    );
BEGIN
    SELECT * INTO known FROM ems.consumers AS consumer WHERE consumer.name = commit_position.name;
    IF NOT pg_has_role(session_user, owner, 'MEMBER') AND NOT coalesce(
        pg_has_role(session_user, to_regrole(quote_ident(coalesce(known.role, commit_position.name)))::oid, 'MEMBER'), false
    ) THEN
        RAISE EXCEPTION 'consumer % is not granted to %', commit_position.name, session_user USING
            ERRCODE = 'insufficient_privilege',
            HINT = 'Run: receiver db grant-reader ' || session_user || ' --consumer ' || commit_position.name;
    END IF;
    IF commit_position.position IS NULL OR commit_position.position NOT BETWEEN 0 AND newest THEN
        RAISE EXCEPTION 'position % is not between 0 and %, the newest position of the feed',
            commit_position.position, newest USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO ems.consumers AS consumer (name, position, updated_at)
    VALUES (commit_position.name, commit_position.position, clock_timestamp())
    ON CONFLICT ON CONSTRAINT pk_consumers DO UPDATE
    SET position = excluded.position, updated_at = excluded.updated_at;
END
$$;
COMMENT ON FUNCTION ems.commit_position(text, bigint) IS
    'Reports that a consumer has read the feed up to a position and stored its results';

-- What a registered consumer has not read is not deleted.

CREATE OR REPLACE FUNCTION receiver.note_deleted_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    highest bigint := (SELECT max(position) FROM gone);
    behind text := (
        SELECT string_agg(format('%s (position %s)', consumer.name, consumer.position), ', ' ORDER BY consumer.name)
        FROM ems.consumers AS consumer WHERE consumer.position < highest
    );
BEGIN
    IF behind IS NOT NULL THEN
        RAISE EXCEPTION 'events up to position % are needed by consumers: %', highest, behind USING
            ERRCODE = 'object_in_use',
            HINT = 'Wait until they have read them, or run: receiver db consumers drop NAME';
    END IF;
    INSERT INTO ems.feed_horizon AS horizon (id, deleted_through, deleted_at)
    SELECT 1, highest, clock_timestamp() WHERE highest IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET
        deleted_through = greatest(horizon.deleted_through, excluded.deleted_through),
        deleted_at = excluded.deleted_at;
    RETURN NULL;
END
$$;
