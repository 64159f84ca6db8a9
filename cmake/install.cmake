# make install: the program, the library, the header, the man page, and what pkg-config and find_package(snug) need.
include(CMakePackageConfigHelpers)

install(TARGETS snug_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS snug EXPORT snug_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# A static library's internal names would be its users' too (buf_append, comp_parse ...): the installed one is a single object in which
# hidden names are local. The one in the build folder keeps them, for the tests.
if(NOT BUILD_SHARED_LIBS AND CMAKE_OBJCOPY AND CMAKE_LINKER)
  install(CODE "
    set(archive \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/$<TARGET_FILE_NAME:snug>\")
    set(object \"\${archive}.o\")
    execute_process(COMMAND \"${CMAKE_LINKER}\" -r -o \"\${object}\" --whole-archive \"\${archive}\" COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND \"${CMAKE_OBJCOPY}\" --localize-hidden \"\${object}\" COMMAND_ERROR_IS_FATAL ANY)
    file(REMOVE \"\${archive}\")
    execute_process(COMMAND \"${CMAKE_AR}\" qcs \"\${archive}\" \"\${object}\" COMMAND_ERROR_IS_FATAL ANY)
    file(REMOVE \"\${object}\")")
endif()
install(FILES include/snug.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES docs/snug.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES README.md NEWS.md docs/format.md docs/architecture.md docs/architecture.svg DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

# A static libsnug does not carry its dependencies: its users link them too.
set(snug_pc_packages "jansson libpcre2-8 libxxhash libzstd lapacke openblas nettle")
set(snug_pc_libs "-lutf8proc ${OpenMP_C_FLAGS} -lpthread -ldl -lm")
if(SNUG_MPI)
  list(JOIN MPI_C_LIBRARIES " " snug_mpi_libs)
  string(APPEND snug_pc_libs " ${snug_mpi_libs}")
endif()
if(BUILD_SHARED_LIBS)
  set(SNUG_PC_REQUIRES "")
  set(SNUG_PC_REQUIRES_PRIVATE "${snug_pc_packages}")
  set(SNUG_PC_LIBS "")
  set(SNUG_PC_LIBS_PRIVATE "${snug_pc_libs}")
else()
  set(SNUG_PC_REQUIRES "${snug_pc_packages}")
  set(SNUG_PC_REQUIRES_PRIVATE "")
  set(SNUG_PC_LIBS "${snug_pc_libs}")
  set(SNUG_PC_LIBS_PRIVATE "")
endif()
configure_file(cmake/snug.pc.in ${CMAKE_BINARY_DIR}/snug.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/snug.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(snug_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/snug)
install(EXPORT snug_targets FILE snug-targets.cmake NAMESPACE snug:: DESTINATION ${snug_cmake_dir})
configure_package_config_file(cmake/snug-config.cmake.in ${CMAKE_BINARY_DIR}/snug-config.cmake INSTALL_DESTINATION ${snug_cmake_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/snug-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/snug-config.cmake ${CMAKE_BINARY_DIR}/snug-config-version.cmake DESTINATION ${snug_cmake_dir})
