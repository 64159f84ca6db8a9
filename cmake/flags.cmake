# Compiler flags, for the build and for the kernel checker's own (tests/neon): those of every file, and the vector levels of src/kern that
# the target's processor may have, weakest first, with those of each.
set(SNUG_C_FLAGS -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
  -Wno-unused-parameter -ffp-contract=off -fvisibility=hidden -fno-math-errno)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(SNUG_KERN_ISAS avx2 avx512)
  set(SNUG_KERN_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(SNUG_KERN_FLAGS_avx512 ${SNUG_KERN_FLAGS_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(SNUG_KERN_ISAS neon)
  # gcc's scheduler moves loads ahead until the registers do not suffice: without it a loop of sdot is a quarter shorter.
  set(SNUG_KERN_FLAGS_neon -march=armv8.2-a+dotprod $<$<C_COMPILER_ID:GNU>:-fno-schedule-insns>)
endif()
