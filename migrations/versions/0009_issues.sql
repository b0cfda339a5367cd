CREATE TABLE receiver.issues (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity INTEGER NOT NULL,
    text TEXT NOT NULL,
    organization_reference_id TEXT,
    count BIGINT NOT NULL,
    state TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    owner TEXT,
    note TEXT,
    accepted_count BIGINT,
    accepted_until TIMESTAMP WITH TIME ZONE,
    by_person BOOLEAN NOT NULL,
    CONSTRAINT pk_issues PRIMARY KEY (id),
    CONSTRAINT uq_issues_kind_subject UNIQUE (kind, subject),
    CONSTRAINT ck_issues_state CHECK (state IN ('open', 'acknowledged', 'resolved'))
);

COMMENT ON COLUMN receiver.issues.subject IS 'what has the trouble; empty for the whole service';
COMMENT ON COLUMN receiver.issues.severity IS '1 warning, 2 critical';
COMMENT ON COLUMN receiver.issues.text IS 'what was found last, for people';
COMMENT ON COLUMN receiver.issues.count IS 'how many deliveries, events or files are affected';
COMMENT ON COLUMN receiver.issues.opened_at IS 'when it opened last';
COMMENT ON COLUMN receiver.issues.owner IS 'who acknowledged or resolved it last';
COMMENT ON COLUMN receiver.issues.accepted_count IS 'the count up to which it does not reopen; null: any';
COMMENT ON COLUMN receiver.issues.accepted_until IS 'when the acknowledgement ends; null: never';
COMMENT ON COLUMN receiver.issues.by_person IS 'whether a person acknowledged or resolved it since it opened';

CREATE TABLE receiver.notifications (
    issue_id BIGINT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    error TEXT,
    sent_state TEXT,
    sent_opened_at TIMESTAMP WITH TIME ZONE,
    sent_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_notifications PRIMARY KEY (issue_id, target),
    CONSTRAINT fk_notifications_issue_id_issues FOREIGN KEY(issue_id) REFERENCES receiver.issues (id) ON DELETE CASCADE
);

COMMENT ON COLUMN receiver.notifications.target IS 'a hash of the address, which is a secret';
COMMENT ON COLUMN receiver.notifications.state IS 'the state to be sent';
COMMENT ON COLUMN receiver.notifications.opened_at IS 'when the issue opened last: opened anew, it is sent again';
COMMENT ON COLUMN receiver.notifications.due_at IS 'when it is sent next, or tried again; not before a minute after the last time';
COMMENT ON COLUMN receiver.notifications.attempts IS 'how many failed since it was sent last';
COMMENT ON COLUMN receiver.notifications.error IS 'why the last attempt failed';
COMMENT ON COLUMN receiver.notifications.sent_state IS 'what was sent last; null: nothing';
