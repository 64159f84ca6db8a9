# snug-oracle: the library's internals as a program, for the tests in tests/interop. Linked from the rooms' objects, since a shared
# libsnug exports the public names alone.
add_executable(snug-oracle ${CMAKE_CURRENT_LIST_DIR}/oracle.c)
foreach(room ${SNUG_ROOMS})
  target_sources(snug-oracle PRIVATE $<TARGET_OBJECTS:${room}>)
endforeach()
target_link_libraries(snug-oracle PRIVATE snug_flags)
set_target_properties(snug-oracle PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
