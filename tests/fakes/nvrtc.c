// A stand-in for NVRTC: "compiles" any text into an ELF head and the options, and writes a line to FAKE_NVRTC_LOG for each compilation.
//
//   cc -shared -fPIC -DMAJOR=13 -DARCH=90 -o libnvrtc.so.13 nvrtc.c
//
// A text that begins with the word BROKEN does not compile.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char text[4096]; int broken; } Program;

int nvrtcVersion(int* major, int* minor) { *major = MAJOR; *minor = 0; return 0; }
const char* nvrtcGetErrorString(int e) { return e == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
int nvrtcGetNumSupportedArchs(int* n) { *n = 2; return 0; }
int nvrtcGetSupportedArchs(int* list) { list[0] = 75; list[1] = ARCH; return 0; }
int nvrtcCreateProgram(Program** p, const char* source, const char* name, int headers, const char* const* texts, const char* const* names) {
    (void)name; (void)headers; (void)texts; (void)names;
    *p = calloc(1, sizeof(Program));
    (*p)->broken = !strncmp(source, "BROKEN", 6);
    strcpy((*p)->text, "\x7f" "ELF fake");
    return 0;
}
int nvrtcCompileProgram(Program* p, int count, const char* const* options) {
    const char* path = getenv("FAKE_NVRTC_LOG");
    FILE* file = path ? fopen(path, "a") : 0;
    for (int i = 0; i < count; i++) strcat(strcat(p->text, " "), options[i]);
    if (file) { fprintf(file, "%s\n", p->text + 5); fclose(file); }
    return p->broken ? 6 : 0;
}
int nvrtcGetProgramLogSize(Program* p, size_t* n) { *n = p->broken ? 18 : 1; return 0; }
int nvrtcGetProgramLog(Program* p, char* log) { strcpy(log, p->broken ? "line 1: is BROKEN" : ""); return 0; }
int nvrtcGetCUBINSize(Program* p, size_t* n) { *n = strlen(p->text); return 0; }
int nvrtcGetCUBIN(Program* p, char* out) { memcpy(out, p->text, strlen(p->text)); return 0; }
int nvrtcDestroyProgram(Program** p) { free(*p); *p = 0; return 0; }
