# Tests of the whole: the program as its users call it, the shape of the house, installation, other engines, and the same tests once
# more in a build with sanitizers. Included by CMakeLists.txt after the unit tests.
#
#   SNUG_ASAN_BUILD  a second build folder, configured with SNUG_SANITIZE=ON: its tests appear here as asan/NAME, so that one CTest run
#                    tells of both (`make test` does this)
find_program(SNUG_PYTHON NAMES python3)
set(SNUG_ASAN_BUILD "" CACHE PATH "A sanitized build whose tests are run too")

include(${CMAKE_CURRENT_LIST_DIR}/fuzz/fuzz.cmake OPTIONAL)
if(NOT BUILD_SHARED_LIBS) # it looks behind the library's public names
  include(${CMAKE_CURRENT_LIST_DIR}/oracle.cmake OPTIONAL)
endif()

# snug_script_test(NAME seconds SCRIPT arguments...): exit code 77 is a skip.
function(snug_script_test name timeout script)
  if(NOT SNUG_PYTHON)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${SNUG_PYTHON} ${script} ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${timeout}
    ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;OMP_WAIT_POLICY=passive;SNUG_TEST_SANITIZED=$<BOOL:${SNUG_SANITIZE}>")
endfunction()

snug_script_test(rooms 120 ${CMAKE_CURRENT_LIST_DIR}/rooms_check.py ${CMAKE_SOURCE_DIR} $<TARGET_FILE:snug>)

set(snug_cli_tests usage bad_input fit moe eval run inspect sources mutations pull)
if(NOT SNUG_SANITIZE)
  list(APPEND snug_cli_tests architectures budgets interrupt mpi)
endif()
foreach(name ${snug_cli_tests})
  snug_script_test(cli_${name} 900 ${CMAKE_CURRENT_LIST_DIR}/cli/test_${name}.py --snug $<TARGET_FILE:snug_cli> --source ${CMAKE_SOURCE_DIR})
endforeach()

if(NOT SNUG_SANITIZE)
  snug_script_test(install 300 ${CMAKE_CURRENT_LIST_DIR}/cli/test_install.py --snug $<TARGET_FILE:snug_cli> --source ${CMAKE_SOURCE_DIR}
    --build ${CMAKE_BINARY_DIR})
  if(TARGET snug-oracle)
    include(${CMAKE_CURRENT_LIST_DIR}/interop/interop.cmake OPTIONAL)
    set(format_python ${SNUG_PYTHON})
    if(SNUG_INTEROP_PYTHON)
      set(format_python ${SNUG_INTEROP_PYTHON})
    endif()
    if(format_python)
      add_test(NAME format_decoder COMMAND ${format_python} ${CMAKE_CURRENT_LIST_DIR}/format_decoder.py --snug $<TARGET_FILE:snug_cli>
        --oracle $<TARGET_FILE:snug-oracle> --model ${CMAKE_SOURCE_DIR}/models/demo)
      set_tests_properties(format_decoder PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
    endif()
  endif()
endif()

# The sanitized build knows its own tests; here each is one line of the same summary.
if(SNUG_ASAN_BUILD)
  get_property(snug_tests DIRECTORY PROPERTY TESTS)
  foreach(name ${snug_tests})
    if(name MATCHES "^(test_|fuzz_replay_|cli_)" AND NOT name MATCHES "^cli_(architectures|budgets|interrupt|mpi|sources)$")
      add_test(NAME asan/${name} COMMAND ${CMAKE_CTEST_COMMAND} --test-dir ${SNUG_ASAN_BUILD} -R "^${name}$" --no-tests=error --output-on-failure)
      set_tests_properties(asan/${name} PROPERTIES TIMEOUT 1200 SKIP_REGULAR_EXPRESSION "\\*\\*\\*Skipped")
    endif()
  endforeach()
endif()

# The longest first, so that no core waits for the last one.
set(cost 100)
foreach(name asan/cli_fit asan/test_fit_moe asan/test_fit asan/test_fit_ternary asan/test_token_golden asan/test_run_draft interop_twin interop_engine_kl cli_interrupt test_fit test_fit_moe cli_fit asan/cli_run
    asan/test_codec cli_budgets asan/cli_bad_input asan/test_solve asan/cli_eval asan/cli_inspect interop_encoders)
  if(TEST ${name})
    set_tests_properties(${name} PROPERTIES COST ${cost})
    math(EXPR cost "${cost} - 1")
  endif()
endforeach()
