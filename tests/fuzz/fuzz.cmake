# Fuzz targets. One line each:  snug_fuzz_target(NAME rooms...)  (or `library`: all)  for fuzz_NAME.c with its corpus in corpus/NAME/.
#
# Always: fuzz_replay_NAME, which replays the corpus and fixed variants of it under whatever compiler and sanitizer the build
# uses (a CTest). With -DSNUG_FUZZ=ON and clang: fuzz_NAME, a libFuzzer program; run it as
#     build-fuzz/tests/fuzz_NAME -max_total_time=300 SCRATCH_FOLDER tests/fuzz/corpus/NAME
set(SNUG_FUZZ_DIR ${CMAKE_CURRENT_LIST_DIR})

function(snug_fuzz_program program name)
  add_executable(${program} ${SNUG_FUZZ_DIR}/fuzz_${name}.c)
  foreach(room ${ARGN})
    if(room STREQUAL library)
      target_link_libraries(${program} PRIVATE snug)
      continue()
    endif()
    target_sources(${program} PRIVATE $<TARGET_OBJECTS:room_${room}>)
    if(room STREQUAL kern AND TARGET room_kern_avx2)
      target_sources(${program} PRIVATE $<TARGET_OBJECTS:room_kern_avx2>)
    endif()
  endforeach()
  target_link_libraries(${program} PRIVATE snug_flags)
  target_include_directories(${program} PRIVATE ${SNUG_FUZZ_DIR})
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endfunction()

function(snug_fuzz_target name)
  snug_fuzz_program(fuzz_replay_${name} ${name} ${ARGN})
  target_sources(fuzz_replay_${name} PRIVATE ${SNUG_FUZZ_DIR}/replay_main.c)
  add_test(NAME fuzz_replay_${name} COMMAND fuzz_replay_${name} ${SNUG_FUZZ_DIR}/corpus/${name} --mutate 200)
  if(SNUG_FUZZ)
    target_link_options(fuzz_replay_${name} PRIVATE -fsanitize=fuzzer-no-link)
    snug_fuzz_program(fuzz_${name} ${name} ${ARGN})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()

snug_fuzz_target(gguf base format)
snug_fuzz_target(safetensors base format)
snug_fuzz_target(st_index base format)
snug_fuzz_target(json base)
snug_fuzz_target(tokenizer base format token)
snug_fuzz_target(jinja base format token)
snug_fuzz_target(hub base hub)
snug_fuzz_target(spm base format token)
snug_fuzz_target(config library)
