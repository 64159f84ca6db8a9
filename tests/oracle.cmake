# snug-oracle: the library's internals as a program, for the tests in tests/interop.
add_executable(snug-oracle ${CMAKE_CURRENT_LIST_DIR}/oracle.c)
target_link_libraries(snug-oracle PRIVATE snug snug_flags)
set_target_properties(snug-oracle PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
