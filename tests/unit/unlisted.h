/* Parameter sets of codecs that are not in the default menu, so that tests over the registry see them too. */
#ifndef TESTS_UNIT_UNLISTED_H
#define TESTS_UNIT_UNLISTED_H

static const char *const unlisted[] = {
    "sp8b2g64",     "sp8b3g64",     "sp8b4g64",     "sp12b2g64",    "sp12b3g64",    "sp12b4g64",    "sp16b2g64",    "sp16b3g64",
    "sp16b4g64",    "sp20b2g64",    "sp20b3g64",    "sp20b4g64",    "sp24b2g64",    "sp24b3g64",    "sp24b4g64",    "sp16b3g32",
    "sp16b3g128",   "sp20b5g128",   "sp16b5g64",    "sp16b6g32",    "sp16b8g64",    "sp2of4b2g64",  "sp2of4b3g32",  "sp2of4b3g64",
    "sp2of4b3g128", "sp2of4b4g64",  "sp2of4b5g64",  "sp2of4b6g64",  "sp2of4b8g64",  "sp3of4b2g64",  "sp3of4b3g64",  "sp3of4b4g64",  "sp3of4b5g32",
    "sp3of4b6g128", "sp3of4b8g64",  "out1",         "out10",        "out100",
    "e8b2",         "e8b3",         "e8b4",         "aq1",          "aq2",          "aq4",
    "gs4b4g32",     "gs1b2g32",     "gs7b3g64",     "gs5b8g128",    "gs2b5g64",     "dict8s3b4",    "dict40s5b8",   "dict5s5b2",    "dict100s20b3",
    "tcq1.5g128",   "tcq4g1024",    "ec1.5",        "ec1.75",       "ec5.5",        "ec6",
};
enum { N_UNLISTED = sizeof unlisted / sizeof *unlisted };
#endif
