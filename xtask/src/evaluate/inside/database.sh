#!/bin/bash
# A day of the database's users: pgbench, and the nightly dump. Arguments: seed, date.
set -eu
RANDOM=$1
date=$2
cd /var/backups/db
chown postgres .
as() { runuser -u postgres -- "$@"; }
if ! as psql -qtAc "select 1 from pg_database where datname = 'bench'" | grep -q 1; then
    as createdb bench
    as pgbench -q -i -s 1 bench 2> /dev/null
fi
for _ in $(seq $((1 + RANDOM % 3))); do
    as pgbench -c $((1 + RANDOM % 3)) -t $((20 + RANDOM % 60)) bench > /dev/null 2>&1
done
as psql -q -c "vacuum analyze pgbench_accounts" bench
as pg_dump -f "bench-$date.sql" bench
gzip -f "bench-$date.sql"
find . -name 'bench-*.gz' | sort | head -n -3 | xargs -r rm --
