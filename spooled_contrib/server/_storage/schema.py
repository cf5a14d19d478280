"""The tables and the indexes that each hot statement was given.

Times are integers, microseconds since the Unix epoch, so that "expires exactly now" is a question with one answer.
JSON is text exactly as the client sent it. Flags are 0 or 1.

`jobs.ready` is an aid for the claim, never a fact: 1 promises that nothing but the job's own row decides, so the claim
walks an index that holds only claimable jobs, in claim order, however many others are delayed or backing off. Rows
become ready when they are made, or are woken by the claim itself when their time has come; see the claim rule.

The statements are portable: `{serial}` is a column that counts by itself, and INTEGER means 64 bits in every database.
A step is never changed once it was released; what comes later is a step of its own.
"""

from __future__ import annotations

INITIAL = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    plan_tier TEXT NOT NULL,
    billing_email TEXT UNIQUE,
    settings TEXT NOT NULL,
    usage_day INTEGER NOT NULL DEFAULT 0,
    jobs_today INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    queues TEXT NOT NULL,
    rate_limit INTEGER,
    is_active INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_used INTEGER,
    expires_at INTEGER
);
CREATE INDEX api_keys_by_organization ON api_keys (organization_id, created_at);
CREATE TABLE revoked_sessions (
    sid TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
);
CREATE TABLE queue_config (
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    max_retries INTEGER NOT NULL,
    default_timeout INTEGER NOT NULL,
    rate_limit INTEGER,
    enabled INTEGER NOT NULL,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, queue_name)
);
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    hostname TEXT NOT NULL,
    worker_type TEXT,
    max_concurrency INTEGER NOT NULL,
    current_jobs INTEGER NOT NULL,
    status TEXT NOT NULL,
    metadata TEXT NOT NULL,
    version TEXT,
    jobs_processed INTEGER NOT NULL DEFAULT 0,
    jobs_failed INTEGER NOT NULL DEFAULT 0,
    last_heartbeat INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX workers_by_heartbeat ON workers (organization_id, last_heartbeat);
CREATE INDEX workers_alive ON workers (last_heartbeat) WHERE status IN ('healthy', 'degraded');
CREATE TABLE jobs (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    status TEXT NOT NULL,
    ready INTEGER NOT NULL,
    payload TEXT NOT NULL,
    job_type TEXT NOT NULL,
    result TEXT,
    priority INTEGER NOT NULL,
    retry_count INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    scheduled_at INTEGER,
    started_at INTEGER,
    completed_at INTEGER,
    expires_at INTEGER,
    tags TEXT,
    parent_job_id TEXT,
    completion_webhook TEXT,
    completion_webhook_secret TEXT,
    assigned_worker_id TEXT,
    lease_id TEXT,
    lease_expires_at INTEGER,
    idempotency_key TEXT,
    workflow_id TEXT,
    dependency_mode TEXT NOT NULL,
    dependencies_met INTEGER NOT NULL,
    has_dependents INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_ready ON jobs (organization_id, queue_name, priority DESC, created_at, seq) WHERE ready = 1;
CREATE INDEX jobs_asleep ON jobs (organization_id, queue_name, COALESCE(scheduled_at, 0))
    WHERE ready = 0 AND dependencies_met = 1 AND status IN ('pending', 'scheduled');
CREATE INDEX jobs_due ON jobs (scheduled_at) WHERE status = 'scheduled';
CREATE INDEX jobs_by_lease ON jobs (lease_expires_at) WHERE status = 'processing';
CREATE INDEX jobs_by_expiry ON jobs (expires_at)
    WHERE expires_at IS NOT NULL AND status IN ('pending', 'scheduled', 'failed', 'deadletter');
CREATE INDEX jobs_by_creation ON jobs (organization_id, created_at, seq);
CREATE INDEX jobs_by_queue_and_status ON jobs (organization_id, queue_name, status);
CREATE INDEX jobs_by_completion ON jobs (organization_id, queue_name, completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_dead ON jobs (organization_id, created_at, seq) WHERE status = 'deadletter';
CREATE INDEX jobs_gated ON jobs (created_at) WHERE dependencies_met = 0 AND status IN ('pending', 'scheduled');
CREATE INDEX jobs_by_parent ON jobs (parent_job_id) WHERE parent_job_id IS NOT NULL;
CREATE TABLE job_dependencies (
    child_job_id TEXT NOT NULL,
    parent_job_id TEXT NOT NULL,
    PRIMARY KEY (child_job_id, parent_job_id)
);
CREATE INDEX job_dependencies_by_parent ON job_dependencies (parent_job_id);
CREATE TABLE job_history (
    seq {serial},
    job_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    worker_id TEXT,
    details TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX job_history_by_job ON job_history (job_id, seq);
"""

SCHEDULES_AND_WORKFLOWS = """
CREATE TABLE schedules (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    cron_expression TEXT NOT NULL,
    timezone TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    payload_template TEXT NOT NULL,
    job_type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    timeout_seconds INTEGER NOT NULL,
    is_active INTEGER NOT NULL,
    last_run_at INTEGER,
    next_run_at INTEGER,
    run_count INTEGER NOT NULL,
    tags TEXT,
    metadata TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX schedules_by_organization ON schedules (organization_id, seq);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE is_active = 1;
CREATE TABLE schedule_runs (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    schedule_id TEXT NOT NULL,
    job_id TEXT,
    status TEXT NOT NULL,
    error_message TEXT,
    started_at INTEGER NOT NULL,
    completed_at INTEGER
);
CREATE INDEX schedule_runs_by_schedule ON schedule_runs (schedule_id, seq);
CREATE INDEX schedule_runs_by_start ON schedule_runs (started_at);
CREATE TABLE workflows (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    status TEXT NOT NULL,
    total_jobs INTEGER NOT NULL,
    completed_jobs INTEGER NOT NULL,
    failed_jobs INTEGER NOT NULL,
    metadata TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER
);
CREATE INDEX workflows_by_organization ON workflows (organization_id, seq);
CREATE INDEX workflows_live ON workflows (organization_id) WHERE status IN ('pending', 'running');
CREATE INDEX workflows_by_completion ON workflows (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_by_workflow ON jobs (workflow_id, status) WHERE workflow_id IS NOT NULL;
"""

WEBHOOKS = """
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    secret TEXT,
    format TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    failure_count INTEGER NOT NULL DEFAULT 0,
    last_triggered_at INTEGER,
    last_status TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX webhooks_by_organization ON webhooks (organization_id, created_at);
CREATE INDEX webhooks_enabled ON webhooks (organization_id) WHERE enabled = 1;
CREATE TABLE webhook_deliveries (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    webhook_id TEXT,
    url TEXT,
    secret TEXT,
    event TEXT NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    claim TEXT,
    status_code INTEGER,
    response_body TEXT,
    error TEXT,
    created_at INTEGER NOT NULL,
    delivered_at INTEGER
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at, seq) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, seq);
CREATE INDEX webhook_deliveries_by_creation ON webhook_deliveries (created_at);
CREATE TABLE ingest_deliveries (
    seq {serial},
    id TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    event_type TEXT NOT NULL,
    matched_queue TEXT NOT NULL,
    job_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX ingest_deliveries_by_organization ON ingest_deliveries (organization_id, seq);
CREATE INDEX ingest_deliveries_by_creation ON ingest_deliveries (created_at);
ALTER TABLE organizations ADD COLUMN assigned_plan TEXT;
ALTER TABLE organizations ADD COLUMN custom_limits TEXT;
ALTER TABLE organizations ADD COLUMN deleted_at INTEGER;
"""

STEPS: tuple[str, ...] = (INITIAL, SCHEDULES_AND_WORKFLOWS, WEBHOOKS)
"""Step n brings a database from version n to version n + 1."""
