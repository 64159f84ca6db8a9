/* The reference level's functions, one file per stem. Plain C, written to be read: the other levels are checked against it. */
#ifndef KERN_REF_REF_H
#define KERN_REF_REF_H
#define KERN_ISA(name) name##_ref
#include "kern/kern.h"
#include "kern/slots.h"
#endif
