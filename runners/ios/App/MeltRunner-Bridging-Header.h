#import "../Core/bridge.h"
