# A room is one folder under src/: an object library whose sources are the .c files in it. libsnug is all rooms together.
# snug_room(NAME [rooms it may use]) keeps the dependency direction visible here; tests/rooms_check.py holds it.

include(${CMAKE_CURRENT_LIST_DIR}/flags.cmake)
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(LAPACKE REQUIRED IMPORTED_TARGET lapacke)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
pkg_check_modules(NETTLE REQUIRED IMPORTED_TARGET nettle<4)
pkg_check_modules(LIBCURL REQUIRED libcurl>=7.85) # its header alone: hub/curl.c loads the library when it is wanted
find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)
find_package(Threads REQUIRED)

add_library(snug_flags INTERFACE)
target_include_directories(snug_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/made)
target_compile_options(snug_flags INTERFACE ${SNUG_C_FLAGS})
target_compile_definitions(snug_flags INTERFACE _GNU_SOURCE SNUG_VERSION="${PROJECT_VERSION}")
if(SNUG_MPI) # base/cluster.c alone sees it
  find_package(MPI REQUIRED COMPONENTS C)
  target_compile_definitions(snug_flags INTERFACE SNUG_MPI)
  target_link_libraries(snug_flags INTERFACE MPI::MPI_C)
endif()
if(SNUG_SANITIZE)
  target_compile_options(snug_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(snug_flags INTERFACE -fsanitize=address,undefined)
endif()
option(SNUG_TSAN "Build with ThreadSanitizer (clang: libomp's Archer tells it what OpenMP orders)" OFF)
if(SNUG_TSAN)
  target_compile_options(snug_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer -g)
  target_link_options(snug_flags INTERFACE -fsanitize=thread)
endif()
if(SNUG_FUZZ)
  target_compile_options(snug_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_link_libraries(snug_flags INTERFACE OpenMP::OpenMP_C PkgConfig::JANSSON PkgConfig::PCRE2 PkgConfig::XXHASH
  PkgConfig::ZSTD PkgConfig::LAPACKE PkgConfig::OPENBLAS PkgConfig::NETTLE ${UTF8PROC_LIBRARY} Threads::Threads
  ${CMAKE_DL_LIBS} m)
target_include_directories(snug_flags INTERFACE ${LIBCURL_INCLUDE_DIRS})

set(SNUG_ROOMS "" CACHE INTERNAL "")
function(snug_room name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/${name}/ref/*.c
       ${CMAKE_CURRENT_SOURCE_DIR}/${name}/arch/*.c)
  if(NOT sources)
    return()
  endif()
  add_library(room_${name} OBJECT ${sources})
  target_link_libraries(room_${name} PUBLIC snug_flags)
  set(SNUG_ROOMS ${SNUG_ROOMS} room_${name} CACHE INTERNAL "")
endfunction()

# Families of architectures are the files of src/model/arch: their list is written here, so that a new one is a file and nothing else.
function(snug_families)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/model/arch/*.c)
  set(text "")
  foreach(file ${files})
    get_filename_component(stem ${file} NAME_WE)
    string(APPEND text "FAMILY(${stem})\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/made/model/families.h CONTENT "${text}" @ONLY)
endfunction()

# One folder per instruction set in src/kern, each with its own compiler flags.
function(snug_kern_isa isa)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/kern/${isa}/*.c)
  if(NOT sources)
    return()
  endif()
  add_library(room_kern_${isa} OBJECT ${sources})
  target_link_libraries(room_kern_${isa} PUBLIC snug_flags)
  # With sanitizers the panels' instantiations take minutes to optimise; -O1 checks the same, and their tests are no slower.
  target_compile_options(room_kern_${isa} PRIVATE ${SNUG_KERN_FLAGS_${isa}} $<$<BOOL:${SNUG_SANITIZE}>:-O1>)
  set(SNUG_ROOMS ${SNUG_ROOMS} room_kern_${isa} CACHE INTERNAL "")
endfunction()
