/* The gate of Sources/FabricCompletion/Gate.swift with two workers, one of which defers an update
 * from inside its section, and an updater that waits; with -DTWO_UPDATERS two.
 *
 * A worker's stores to its slot go through a store buffer, as on real processors: they become
 * visible at some later moment, at the worker's next read-modify-write, or when an updater issues
 * its membarrier. -DNO_BARRIER leaves the membarrier out, and -DNO_ATTEMPTS the look for an attempt
 * that found the lock taken; the verifier must then find an error.
 *
 * Checked: no worker is inside during an update; every deferred update runs once; nobody waits for
 * ever (an end in which a process has not finished is an error).
 */
#define WORKERS 2
#ifndef PASSES
#define PASSES 1
#endif
#define EMPTY 2

bit closed;            /* pending */
bit slot[WORKERS];     /* as others see it */
byte buffer[WORKERS];  /* EMPTY, or the value on its way to the slot */
bit inside[WORKERS];   /* the truth */
bit updating;
bit taken;             /* the updaters' lock */
byte exits, waiting, attempts;
byte deferred, ran;
byte finished;

inline flush(w) {
  atomic {
    if
    :: buffer[w] != EMPTY -> slot[w] = buffer[w]; buffer[w] = EMPTY
    :: else
    fi
  }
}

inline storeSlot(w, value) {
  flush(w);
  atomic {
    buffer[w] = value
  }
}

inline barrier() {
#ifndef NO_BARRIER
  atomic { flush(0); flush(1) }
#endif
  skip
}

inline runUpdate() {
  updating = 1;
  assert(!inside[0] && !inside[1]);
  updating = 0
}

inline runDeferred() {
  do
  :: atomic { deferred > 0 -> deferred-- }; runUpdate(); ran++
  :: deferred == 0 -> break
  od
}

/* `me` is the worker whose read-modify-writes empty its buffer; WORKERS for an updater. */
inline runDeferredIfEmpty(me, seen) {
  atomic {
    if
    :: me < WORKERS -> flush(me)
    :: else
    fi;
    attempts++
  }
  do
  :: seen = attempts;
    if
    :: deferred == 0 -> break
    :: else
    fi;
    if
    :: atomic { !taken -> taken = 1 }
    :: atomic { taken -> break }
    fi;
    if
    :: deferred > 0 ->
      closed = 1;
      barrier();
      if
      :: !slot[0] && !slot[1] -> runDeferred(); closed = 0
      :: else
      fi
    :: else
    fi;
    taken = 0;
#ifdef NO_ATTEMPTS
    break
#else
    if
    :: attempts == seen -> break
    :: else
    fi
#endif
  od;
  seen = 0
}

inline leaveSlowly(me, seen) {
  if
  :: closed ->
    atomic { flush(me); exits++ }
    if
    :: deferred > 0 -> runDeferredIfEmpty(me, seen)
    :: else
    fi
  :: else
  fi
}

proctype Worker(byte me) {
  byte pass, seen;
  bit counted;
  do
  :: pass == PASSES -> break
  :: else ->
    storeSlot(me, 1);
    do
    :: !closed -> inside[me] = 1; break
    :: closed ->
      if
      :: !counted -> counted = 1; atomic { flush(me); waiting++ }
      :: else
      fi;
      storeSlot(me, 0);
      leaveSlowly(me, seen);
      !closed;
      storeSlot(me, 1)
    od;
    if
    :: counted -> atomic { flush(me); waiting-- }; counted = 0
    :: else
    fi;
    assert(!updating);
    if
    :: me == 0 && pass == 0 -> atomic { flush(me); deferred++ }; runDeferredIfEmpty(me, seen)
    :: else
    fi;
    assert(!updating);
    inside[me] = 0;
    storeSlot(me, 0);
    leaveSlowly(me, seen);
    pass++
  od;
  flush(me);
  finished++
}

/* Stores leave the buffer at any time. */
proctype Memory(byte me) {
end:
  do
  :: atomic { buffer[me] != EMPTY -> slot[me] = buffer[me]; buffer[me] = EMPTY }
  od
}

proctype Updater() {
  byte seen;
  atomic { !taken -> taken = 1 }
  if
  :: !closed -> waiting == 0
  :: else
  fi;
  closed = 1;
  barrier();
  do
  :: seen = exits;
    if
    :: !slot[0] && !slot[1] -> break
    :: else -> exits != seen
    fi
  od;
  runUpdate();
  runDeferred();
  closed = 0;
  taken = 0;
  if
  :: deferred > 0 -> runDeferredIfEmpty(WORKERS, seen)
  :: else
  fi;
  finished++
}

init {
  atomic {
    buffer[0] = EMPTY;
    buffer[1] = EMPTY;
    run Memory(0);
    run Memory(1);
    run Worker(0);
    run Worker(1);
    run Updater();
#ifdef TWO_UPDATERS
    run Updater()
#endif
  }
#ifdef TWO_UPDATERS
  finished == WORKERS + 2;
#else
  finished == WORKERS + 1;
#endif
  assert(ran == 1 && deferred == 0 && !closed)
}
