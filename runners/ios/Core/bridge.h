/* melt's native runner as a function, for an app that cannot start programs. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Runs the runner with the words that its program would get after its name. What it says goes to the end of a file, which
 * is made where it is not there: each event is whole in it once it is said, even where the process dies right after.
 * Returns the exit status that the program would have, or 2 where the file cannot be written. Once a process.
 */
int melt_run(int argc, const char *const *argv, const char *events_path);

/* Adds a warning event to the file; safe beside melt_run. Returns 0, or -1 where it cannot be written. */
int melt_warn(const char *events_path, const char *kind, const char *message);

/*
 * Adds a sample to a file of telemetry, in the sampler's form and stamped now: how much more memory the system gives this
 * process. Safe beside melt_run. Returns 0, or -1 where it cannot be written.
 */
int melt_sample_memory(const char *telemetry_path, uint64_t available_bytes);

#ifdef __cplusplus
}
#endif
