// What most generated files include, to be compiled once: a third of the time that is left otherwise goes here.
#include "cuda_runtime.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "thrust/device_vector.h"
