#!/bin/sh
# Prints job_schema.hpp, with what CMake else puts into it: job.json as text.
set -eu
cd "$(dirname "$0")/../../melt/runner"
sed -e '/@MELT_JOB_SCHEMA@/{
r job.json
d
}' native/job_schema.hpp.in
