// The driver API: included by the code that is run, not used.
#pragma once
