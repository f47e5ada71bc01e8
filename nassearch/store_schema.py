"""The tables of `nassearch.store`: a log of what happened, and what each entry says."""

from __future__ import annotations

APPLICATION_ID = 0x6E617365  # "nase", in the file's header
FORMAT = 2  # 2: failed evaluations that were done again

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ref INTEGER NOT NULL, at REAL NOT NULL);
CREATE TABLE proposals (
    id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, seed INTEGER NOT NULL, origin TEXT NOT NULL,
    genotype TEXT NOT NULL, predicted TEXT
);
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY REFERENCES proposals(id), status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
    vals TEXT NOT NULL, std TEXT NOT NULL, measured TEXT NOT NULL, error TEXT, host TEXT NOT NULL,
    device TEXT NOT NULL, started REAL NOT NULL, wall_s REAL NOT NULL, attempts INTEGER NOT NULL
);
CREATE TABLE finals (id INTEGER PRIMARY KEY REFERENCES proposals(id), vals TEXT NOT NULL, report TEXT NOT NULL,
    device TEXT NOT NULL, at REAL NOT NULL);
"""
RETRIES = """
CREATE TABLE retries (round INTEGER NOT NULL, id INTEGER NOT NULL REFERENCES evaluations(id), PRIMARY KEY (round, id));
CREATE TABLE retried (
    round INTEGER NOT NULL, id INTEGER NOT NULL, status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
    vals TEXT NOT NULL, std TEXT NOT NULL, measured TEXT NOT NULL, error TEXT, host TEXT NOT NULL,
    device TEXT NOT NULL, started REAL NOT NULL, wall_s REAL NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (round, id), FOREIGN KEY (round, id) REFERENCES retries(round, id)
);
"""
OUTCOME = "id, status, vals, std, measured, error, host, device, started, wall_s, attempts"
