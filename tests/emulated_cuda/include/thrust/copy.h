// Included by the code that is run; none of it is used.
#pragma once
