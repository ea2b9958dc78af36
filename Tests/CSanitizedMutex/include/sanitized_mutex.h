// Tells the thread sanitizer of the order that a contended `Mutex` of Swift makes.
#pragma once
