/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated machine: devices, who uses them, and their memory, in files that every process of
 * the machine maps. Knows nothing of CUDA or NVML; both libraries stand on it.
 *
 * A machine is named by a directory. In it `machine` is a symbolic link to the state file, which
 * lies with the devices' memory in a directory of its own, in /dev/shm where that is large enough.
 *
 * Death. Every process that takes memory or device time has a slot in the process table and a
 * thread that holds the slot's robust mutex until the process ends, in whatever way; so the kernel
 * tells whoever looks next that it ended, and that one gives back what the dead one had (a sweep).
 * All shared locks are robust mutexes; who finds one abandoned makes the state consistent again:
 * what is derived is computed anew, what was being built is dropped.
 *
 * Memory of a device is made of 2 MiB frames. An *object* is a chain of frames that was allocated
 * at once; it is named by its first frame and an id that never comes again. It lives while a
 * process holds it (its owner, which is charged, or others) or while an exported descriptor of it
 * is open anywhere. When the owner lets go, the next holder becomes the owner.
 */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"
#include "profile.h"

#define SIM_MACHINE_MAGIC 0x314d4953514c4141ull /* "AALQSIM1" */
#define SIM_MACHINE_ABI 3u
#define SIM_MAX_DEVICES 16u
#define SIM_MAX_PROCESSES 4096u
#define SIM_FRAME_BYTES (2ull << 20)
#define SIM_HOST_PAGE_BYTES 4096u /* of the files behind them. Source: x86-64 */
#define SIM_MAX_FRAMES 163840u /* 320 GiB; the largest profile has 179 GiB */
#define SIM_MAX_HOLDS 16384u   /* objects on one device that are held by others than their owner */
#define SIM_MAX_SHARED_EVENTS 1024u
#define SIM_NONE UINT32_MAX

/* sim_frame.flags, of an object's first frame */
#define SIM_FRAME_EXPORTED 1u /* a descriptor was given out: its file is backing/export-DEV-ID */
#define SIM_FRAME_DYING 2u    /* being freed: nobody may hold it any more */

struct sim_frame {
	uint32_t next;	   /* in the chain, or SIM_NONE */
	uint32_t n_frames; /* of the object that begins here; 0: none begins here. Written last. */
	uint32_t owner;	   /* of the object: process slot that is charged; SIM_NONE: nobody */
	uint32_t flags;
	uint64_t id; /* of the object */
	uint32_t stale; /* of this frame, free or not; see stale.c. Atomic */
	uint32_t reserved;
};

/* An object that a process other than the owner holds. */
struct sim_hold {
	uint32_t frame_plus_1; /* 0: entry is free. Written last. */
	uint32_t process;
};

/* An event that processes share. It is free again when its creator destroys it or dies: others
 * remember the id, and take an event with another id for completed. */
struct sim_shared_event {
	uint64_t id;	    /* 0: free */
	uint32_t device;    /* index in the machine */
	uint32_t process;   /* slot of the creator: the event ends with it */
	uint64_t recorded;  /* records so far; atomic */
	uint64_t completed; /* value of `recorded` whose work is done; atomic */
	uint64_t finish_ns; /* of that */
};

struct sim_machine_device {
	/* Constant once sim_shared.n_devices counts it. */
	char profile[16]; /* id */
	uint8_t uuid[16];
	uint32_t pci_bus;     /* domain 0, device 0 */
	uint32_t n_frames;    /* floor(total_bytes / frame) */
	uint64_t total_bytes; /* for programs: NVML total - reserved */

	/* Under memory_lock. All but next_id, n_holds, frames[], holds[] is
	 * derived. */
	pthread_mutex_t memory_lock;
	uint64_t frames_used;
	uint64_t overhead_bytes; /* contexts and modules, of all processes */
	uint64_t next_id;
	uint32_t n_free;
	uint32_t n_orphans; /* objects without owner: alive by a descriptor, or dying */
	uint32_t n_holds;   /* entries at and above this were never used */
	uint32_t n_kept;    /* free frames that are stale */

	/* Under engine_lock: engine. */
	pthread_mutex_t engine_lock;

	uint32_t free[SIM_MAX_FRAMES]; /* stack of free frames */
	struct sim_frame frames[SIM_MAX_FRAMES];
	struct sim_hold holds[SIM_MAX_HOLDS];
	struct sim_engine engine;
};

/* What one process has on one device. Written under the device's memory_lock, but for the times. */
struct sim_process_share {
	uint64_t frames;	 /* of objects that it owns; derived */
	uint64_t overhead_bytes; /* not derived: the truth */
	uint64_t gpu_time_ns;	 /* of its contexts that ended; under engine_lock */
	uint32_t contexts;	 /* under engine_lock */
	uint32_t touched;	 /* 1 before it takes anything: a sweep has to look here */
};

struct sim_machine_process {
	pthread_mutex_t alive; /* held by the process's own thread while it lives */
	uint32_t used;	       /* 1: taken; under the machine's lock */
	int32_t pid;
	uint64_t start_ticks; /* field 22 of /proc/PID/stat */
	char name[32];	      /* comm */
	struct sim_process_share on[SIM_MAX_DEVICES];
};

struct sim_shared {
	uint64_t magic;
	uint32_t abi;
	uint32_t n_devices; /* atomic; grows only */
	uint64_t size;	    /* sizeof(struct sim_shared) of the creator */
	uint64_t created_ns;
	char directory[256];  /* that names this machine */
	pthread_mutex_t lock; /* process table, device table, shared events */
	uint32_t n_processes; /* slots at and above this were never used */
	uint32_t reserved;
	uint64_t next_event_id;
	struct sim_shared_event events[SIM_MAX_SHARED_EVENTS];
	struct sim_machine_process processes[SIM_MAX_PROCESSES];
	struct sim_machine_device devices[SIM_MAX_DEVICES];
};

/* One process's view of a machine. */
struct sim_machine {
	struct sim_shared *shared;
	char backing[192];				    /* directory of the state file */
	uint32_t self;					    /* slot of this process, or SIM_NONE */
	int memory_fd[SIM_MAX_DEVICES];			    /* -1 until needed */
	const struct sim_profile *profile[SIM_MAX_DEVICES]; /* NULL until needed */
};

/*
 * Opening and changing machines. Return 0 or negative errno; -ENOENT: there is none; -EPROTO: of
 * another version; -EINVAL: a spec is not PROFILE[:COUNT][,...]; -ENOSPC: more than
 * SIM_MAX_DEVICES.
 */

/**
 * sim_machine_find() - the machine that this process's environment means.
 * $ALIQUOT_SIM_DIR; or the first that exists of <user's run directory>/sim and /run/aliquot/sim.
 * Where it does not exist and $ALIQUOT_SIM is set, it is created with those devices.
 */
int sim_machine_find(struct sim_machine *m);

/* Map the machine of @dir. */
int sim_machine_open(struct sim_machine *m, const char *dir);

/* Unmap. A process with a slot never does this. @m may be zeroed. */
void sim_machine_close(struct sim_machine *m);

/* Create the machine of @dir if need be, and make sure that it has the devices of @spec. */
int sim_machine_add(const char *dir, const char *spec);

/* Delete the machine of @dir with all memory. Processes that use it go on until they end. */
int sim_machine_remove(const char *dir);

/* Devices so far, and the profile of one (never NULL: an unknown id is -EPROTO at opening). */
uint32_t sim_machine_n_devices(const struct sim_machine *m);
const struct sim_profile *sim_machine_profile(struct sim_machine *m, uint32_t device);

/*
 * Processes.
 */

/**
 * sim_machine_join() - take a slot and start the thread that marks this process as alive.
 * Return: 0; -EUSERS table full; other negative errno
 */
int sim_machine_join(struct sim_machine *m);

/* Give back all that dead processes had. Cheap when nobody died: some 20 ns for each slot. */
void sim_machine_sweep(struct sim_machine *m);

/* Whether the process of a slot lives. Does not sweep. */
bool sim_machine_alive(struct sim_machine *m, uint32_t process);

/* What a reader (NVML, tests) sees of a process on a device. */
struct sim_process_usage {
	int32_t pid;
	uint64_t memory_bytes; /* frames that it owns, contexts and modules */
	uint64_t gpu_time_ns;  /* compute time so far */
	uint32_t contexts;
};

/**
 * sim_machine_usage() - the processes that have a context or memory on @device, after a sweep.
 * Return: how many there are; at most @max are written.
 */
uint32_t sim_machine_usage(struct sim_machine *m, uint32_t device, struct sim_process_usage *usage,
			   uint32_t max);

/* Compute and copy time of the device since its creation (all processes), up to now. */
struct sim_device_times {
	uint64_t now_ns;
	uint64_t compute_ns;
	uint64_t copy_ns[SIM_COPY_ENGINES]; /* accepted; may run ahead of now */
	uint64_t switched_ns;
	uint64_t switches;
};
void sim_machine_times(struct sim_machine *m, uint32_t device, struct sim_device_times *ret_times);

/* What one context has consumed since it was made: the truth that accounts are compared with. */
struct sim_account {
	uint64_t id; /* of the context on its device, from 1; never comes again */
	int32_t pid;
	bool alive; /* the context; its process may live on without it */
	uint64_t compute_ns;
	uint64_t copy_ns[SIM_COPY_ENGINES]; /* accepted; may run ahead of now */
};

/**
 * sim_machine_accounts() - the device's times and the accounts of all its contexts at one instant,
 * after a sweep: those alive, then the last SIM_ENGINE_PAST that ended, oldest first.
 * @ret_gaps: SIM_ENGINE_GAPS counters of switches by the idle time before them, or NULL
 * Return: how many contexts there are; at most @max are written.
 */
uint32_t sim_machine_accounts(struct sim_machine *m, uint32_t device,
			      struct sim_device_times *ret_times, struct sim_account *accounts,
			      uint32_t max, uint64_t *ret_gaps);

/*
 * Memory (frames.c). @process is the slot of the caller, m->self.
 */

/* total = what programs may have at most; free + used = total. Sweeps first. */
void sim_memory_info(struct sim_machine *m, uint32_t device, uint64_t *ret_free_bytes,
		     uint64_t *ret_total_bytes);

/**
 * sim_frames_alloc() - a new object of @n_frames, owned by this process. Its bytes are zero.
 * Return: 0; -ENOMEM the device has not that much, even after a sweep.
 */
int sim_frames_alloc(struct sim_machine *m, uint32_t device, uint32_t n_frames, uint32_t *ret_first,
		     uint64_t *ret_id);

/* Hold an object of another process too. Return: 0; -ENOENT no such object any more; -ENOSPC. */
int sim_frames_hold(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id);

/* Let go, as owner or holder. The object ends with its last holder and exported descriptor. */
void sim_frames_release(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id);

/* Frame numbers of an object, in order; @frames has room for n_frames. Return: 0; -ENOENT. */
int sim_frames_list(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id,
		    uint32_t *frames, uint32_t n_frames);

/* Size of an object in frames, 0 when there is none. */
uint32_t sim_frames_count(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id);

/**
 * sim_frames_export() - descriptor that keeps an object alive while it is open in any process.
 * Return: close-on-exec descriptor, or negative errno
 */
int sim_frames_export(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id);

/* What a descriptor of sim_frames_export() names. Return: 0; -EINVAL not one of this machine. */
int sim_frames_import(struct sim_machine *m, int fd, uint32_t *ret_device, uint32_t *ret_first,
		      uint64_t *ret_id);

/* Charge or give back bytes that have no frames (contexts, modules). Return: 0; -ENOMEM. */
int sim_overhead_charge(struct sim_machine *m, uint32_t device, uint64_t bytes);
void sim_overhead_release(struct sim_machine *m, uint32_t device, uint64_t bytes);

/* The whole memory of a device, mapped on first use: frame f is at f * SIM_FRAME_BYTES. */
int sim_memory_map(struct sim_machine *m, uint32_t device, uint8_t **ret_bytes);

/* Where a device's memory has bytes, from @offset on; UINT64_MAX: nowhere. What has none reads zero
 * and takes nothing of the host. */
uint64_t sim_memory_written(struct sim_machine *m, uint32_t device, uint64_t offset);

/*
 * Stale frames (stale.c) read as zero, whatever bytes they have.
 */
static inline bool sim_frame_is_stale(const struct sim_machine *m, uint32_t device, uint32_t frame)
{
	return __atomic_load_n(&m->shared->devices[device].frames[frame].stale, __ATOMIC_ACQUIRE);
}

/* Make it so, before a part of the frame is used. @bytes: of the frame, as sim_memory_map() has
 * them. */
void sim_frame_clean(struct sim_machine *m, uint32_t device, uint32_t frame, uint8_t *bytes);

/* Every byte of it has just been written. */
void sim_frame_overwritten(struct sim_machine *m, uint32_t device, uint32_t frame);

/*
 * For the files of this module.
 */

#define SIM_STATE_FILE "machine"

/* Where the link in @dir points to, without the file's name; @buf of AQ_PATH_BYTES. And map the
 * state file in such a directory. */
int sim_machine_read_link(const char *dir, char *buf);
int sim_machine_open_backing(struct sim_machine *m, const char *backing);

/* Open the machine of @dir, made or extended as @spec says. */
int sim_machine_open_or_make(struct sim_machine *m, const char *dir, const char *spec);

/* Lock a robust mutex; 1 instead of 0 when its owner died: then repair, before anything else. */
int sim_lock(pthread_mutex_t *mutex);
void sim_unlock(pthread_mutex_t *mutex);
void sim_lock_init(pthread_mutex_t *mutex);

void sim_memory_lock(struct sim_machine *m, uint32_t device); /* repairs */
void sim_memory_unlock(struct sim_machine *m, uint32_t device);
struct sim_engine *sim_engine_lock(struct sim_machine *m, uint32_t device); /* repairs */
void sim_engine_unlock(struct sim_machine *m, uint32_t device);
void sim_machine_lock(struct sim_machine *m);
void sim_machine_unlock(struct sim_machine *m);

/* The object, or NULL when it is not (or no longer) there. Memory lock held. */
struct sim_frame *sim_object_at(struct sim_machine_device *d, uint32_t first, uint64_t id);

/* Whether a descriptor of an object is open anywhere; when none is, its file goes. Memory lock
 * held. */
bool sim_export_open(struct sim_machine *m, uint32_t device, struct sim_frame *head);

/* Let the bytes of neighbouring frames go, so that they read zero. Return: whether they do. */
bool sim_memory_punch(struct sim_machine *m, uint32_t device, uint32_t first, uint32_t n);

/**
 * sim_frames_empty() - let frames that are about to be free read zero. Memory lock held.
 * @keep: their bytes may stay with the host, for who gets them next
 */
void sim_frames_empty(struct sim_machine *m, uint32_t device, const uint32_t *frames, uint32_t n,
		      bool keep);
/* Give the host all that is kept. Memory lock held, and let go between batches. */
void sim_frames_drop_kept(struct sim_machine *m, uint32_t device);

/* Prepare the frames of a new device. */
void sim_frames_init(struct sim_machine_device *d);
/* Give back all that the dead @process had on @device. */
void sim_frames_sweep(struct sim_machine *m, uint32_t device, uint32_t process);

#endif /* SIM_MACHINE_H */
