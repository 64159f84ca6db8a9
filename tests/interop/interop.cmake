# The interop tests, for CTest: include() this after the targets `snug_cli` and `snug-oracle` exist.
# SNUG_INTEROP_PYTHON names a Python that has tests/interop/requirements.txt; with another one the tests skip (77).
# In CI, SNUG_REQUIRE_INTEROP=1 in the environment turns a skip into a failure.
find_program(SNUG_INTEROP_PYTHON NAMES python3 DOC "Python with tests/interop/requirements.txt")
if(SNUG_INTEROP_PYTHON)
  foreach(name dequant encoders engine_kl architectures bitnet deepseek moe read_types templates random_templates twin wide)
    add_test(NAME interop_${name} COMMAND ${SNUG_INTEROP_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/test_${name}.py
             --snug $<TARGET_FILE:snug_cli> --oracle $<TARGET_FILE:snug-oracle> --model ${CMAKE_SOURCE_DIR}/models/demo)
    set_tests_properties(interop_${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900 LABELS interop)
  endforeach()
endif()
